"""Every patch applies, names tests and targets that exist, and the table is up to date. Usage: check.py ROOT BUILD [--write]"""

import pathlib
import sys

import patches as patching


def check(root, build, write=False, folder=None):
    root = pathlib.Path(root)
    folder = folder or root / "tests" / "mutation"
    patches, findings = patching.read_all(folder)
    names, targets = patching.ctest_names(build), patching.ninja_targets(build)
    for patch in patches:
        try:
            patch.apply(root, check=True)
            patching.tests_of(patch, names)
        except patching.Wrong as wrong:
            findings.append(str(wrong))
        findings += [f"{patch.name}: there is no target '{target}'" for target in patch.targets if target not in targets]
    page = folder / "TABLE.md"
    if write:
        page.write_text(patching.table(patches), encoding="utf-8")
    if not page.exists() or page.read_text(encoding="utf-8") != patching.table(patches):
        findings.append(f"{page.name} is not what the patches say: python3 tests/mutation/check.py . {build} --write")
    return findings


if __name__ == "__main__":
    found = check(sys.argv[1], sys.argv[2], "--write" in sys.argv[3:])
    print("\n".join(found))
    sys.exit(1 if found else 0)
