"""What the style checks share: the files of a tree, its layers, and how findings are reported."""

import pathlib
import re
import subprocess
import sys

CPP = (".cpp", ".hpp", ".h", ".cc")
CODE = CPP + (".py", ".sh")
LAYERS = ("vmm/base", "vmm", "guest", "sync", "proxy", "cli", "tests", "bench")


def git(root, *arguments):
    """Output of git in `root`, or None where that is no repository."""
    command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else None


def files(root, suffixes=None):
    """Relative paths of the project's own files: tracked, or new and not ignored. A plain folder counts as a whole."""
    root = pathlib.Path(root)
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard") if (root / ".git").exists() else None
    names = listed.split("\0") if listed else [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
    names = sorted({n for n in names if n and (root / n).is_file() and not (root / n).is_symlink()})
    return [n for n in names if suffixes is None or n.endswith(tuple(suffixes))]


def read(root, name):
    return (pathlib.Path(root) / name).read_text(encoding="utf-8", errors="replace")


def layer(name):
    """The layer a path belongs to, or None (vmm/base is one of its own)."""
    return next((l for l in LAYERS if name.startswith(l + "/")), None)


def includes(text):
    """(line number, name, quoted?) of each include directive."""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found.group(2), found.group(1) == '"'


def main(check):
    """Runs `check(root, *rest)` for the command line; a check returns its findings."""
    findings = check(*sys.argv[1:])
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
