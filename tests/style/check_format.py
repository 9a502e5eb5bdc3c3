"""clang-format changes nothing, and shellcheck has nothing to say."""
# Later versions of clang-format lay a few constructs out differently: of the code the one is asked that it was laid out with.

import pathlib
import re
import shutil
import subprocess

import repo


VERSION = "14"


def formatter():
    return next((p for p in map(shutil.which, (f"clang-format-{VERSION}", "clang-format")) if p), None)


def version_of(tool):
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"version (\d+)", said).group(1)


def shell_scripts(root):
    for name in repo.files(root):
        path = pathlib.Path(root) / name
        with path.open("rb") as stream:
            first = stream.readline(64)
        if name.endswith(".sh") or (first.startswith(b"#!") and first.split()[0 if b"env" not in first else 1].endswith(b"sh")):
            yield name


def check(root, *_):
    findings = []
    tool = formatter()
    names = repo.files(root, repo.CPP)
    if not tool:
        findings.append("clang-format is missing: ./bootstrap test installs it")
    elif version_of(tool) != VERSION:
        print(f"skipped: the layout of the code (this host has clang-format {version_of(tool)}, not {VERSION})")
    elif names:
        result = subprocess.run([tool, "--dry-run", "--style=file", *names], cwd=root, capture_output=True, text=True, check=False)
        bad = sorted({line.split(":")[0] for line in result.stderr.splitlines() if "-Wclang-format-violations" in line})
        findings += [f"{name}: not formatted (clang-format -i {name})" for name in bad]
        if result.returncode:
            findings.append(f"{tool} failed: {result.stderr[-400:]}")
    scripts = list(shell_scripts(root))
    if not shutil.which("shellcheck"):
        findings.append("shellcheck is missing: ./bootstrap test installs it")
    elif scripts:
        result = subprocess.run(["shellcheck", "--format=gcc", *scripts], cwd=root, capture_output=True, text=True, check=False)
        findings += result.stdout.splitlines()
        if result.returncode and not result.stdout:
            findings.append(f"shellcheck failed: {result.stderr[-400:]}")
    return findings


if __name__ == "__main__":
    repo.main(check)
