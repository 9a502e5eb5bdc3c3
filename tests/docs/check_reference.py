"""docs/reference/ is what the program prints. Usage: check_reference.py ROOT BUILD [--write]"""

import difflib
import pathlib
import subprocess
import sys


def pages(build):
    """{file name: command that prints it}"""
    reference = str(pathlib.Path(build) / "tests" / "agentvm-reference")
    return {
        "commands.md": [str(pathlib.Path(build) / "bin" / "agentvm"), "help", "--markdown"],
        "configuration.md": [reference, "configuration"],
        "egress-presets.md": [reference, "egress-presets"],
        "decoys.md": [reference, "decoys"],
        "known-secrets.md": [reference, "known-secrets"],
        "lifecycle.md": [reference, "lifecycle"],
    }


def check(root, build, write=False):
    findings = []
    folder = pathlib.Path(root) / "docs" / "reference"
    for name, command in pages(build).items():
        printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if printed.returncode or not printed.stdout.strip():
            findings.append(f"{' '.join(command)}: exit {printed.returncode}, {len(printed.stdout)} bytes: {printed.stderr[-200:]}")
            continue
        path = folder / name
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(printed.stdout)
        kept = path.read_text() if path.exists() else ""
        if kept != printed.stdout:
            findings += difflib.unified_diff(kept.splitlines(), printed.stdout.splitlines(), f"docs/reference/{name}", "printed now", n=0, lineterm="")
    if findings:
        findings.append(f"regenerate: python3 tests/docs/check_reference.py . {build} --write")
    return findings


if __name__ == "__main__":
    found = check(sys.argv[1], sys.argv[2], "--write" in sys.argv[3:])
    print("\n".join(found))
    sys.exit(1 if found else 0)
