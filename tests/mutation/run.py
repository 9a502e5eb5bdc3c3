"""Takes defences out of a copy of the source, one at a time, and demands that their tests fail.

usage: run.py ROOT BUILD [--row N]... [--only NAME]... [--jobs N] [--keep]

The copy is BUILD/mutation/src, built with the settings of BUILD (so that the compiler cache knows most of it). First the
named tests must pass there as they are; then for each patch: apply, build its targets, run its tests, take it back. A patch is
a failure when it does not apply or build, or when a test that it names still passes. Most of that keeps one core busy: with
--jobs (default 2) there are so many copies, and each takes the next patch that none has.
"""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import time

import patches as patching

SETTINGS = ("CMAKE_BUILD_TYPE", "AGENTVM_WERROR", "CMAKE_CXX_COMPILER", "AGENTVM_SANITIZE")


def say(text):
    print(f"mutation: {text}", flush=True)


def listed_files(root):
    """The project's own files: tracked, or new and not ignored; of a plain folder all but its builds."""
    if (root / ".git").exists():
        command = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    else:
        names = [str(path.relative_to(root)) for path in root.rglob("*")]
    return {name for name in names if name and (root / name).is_file() and not name.startswith("build")}


class Copy:
    """The tree that is mutated, and its build."""

    def __init__(self, root, build, number=0):
        self.root, self.build_of_root = root, build
        self.source = build / "mutation" / f"src{number or ''}"
        self.build = self.source / "build"  # the same place relative to the source as usual: the compiler cache compares paths

    def refresh(self):
        """Makes the copy equal to the tree; files that are equal keep their time, so that little is built again."""
        self.source.mkdir(parents=True, exist_ok=True)
        wanted = listed_files(self.root)
        for path in list(self.source.rglob("*")):
            name = str(path.relative_to(self.source))
            if path.is_file() and name not in wanted and not name.startswith("build/"):
                path.unlink()
        for name in wanted:
            self.restore(name)

    def restore(self, name):
        original, copy = self.root / name, self.source / name
        if not original.is_file():
            copy.unlink(missing_ok=True)
            return
        if copy.is_file() and copy.read_bytes() == original.read_bytes() and (copy.stat().st_mode ^ original.stat().st_mode) & 0o111 == 0:
            return
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, copy)  # not its time: ninja must see the change

    def configure(self):
        if (self.build / "build.ninja").exists():
            return
        cache = (self.build_of_root / "CMakeCache.txt").read_text(encoding="utf-8")
        settings = re.findall(rf"^({'|'.join(SETTINGS)}):\w+=(.*)$", cache, re.MULTILINE)
        command = ["cmake", "-G", "Ninja", "-S", str(self.source), "-B", str(self.build), "-DAGENTVM_TESTS=ON", *(f"-D{key}={value}" for key, value in settings)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(f"mutation: cmake failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")

    def share_image(self):
        """The guest image of the tests is the same unless a patch changes what it is made from; then the fixture makes another beside it."""
        data = self.build_of_root / "test-data"
        if data.is_dir() and not (self.build / "test-data").exists():
            (self.build / "test-data").symlink_to(data)

    def compile(self, targets):
        """None, or what the compiler said."""
        result = subprocess.run(["ninja", "-C", str(self.build), "--quiet", *targets], capture_output=True, text=True, check=False)
        return None if result.returncode == 0 else (result.stdout + result.stderr)[-3000:]

    def failing(self, tests, cases=""):
        """Those of `tests` that fail, and ctest's own words."""
        pattern = "^(" + "|".join(re.escape(test) for test in tests) + ")$"
        environment = dict(os.environ)
        if cases:
            environment |= {"GTEST_FILTER": cases, "PYTEST_ADDOPTS": f"-k '{cases}'"}
        result = subprocess.run(["ctest", "--output-on-failure", "--no-tests=error", "-R", pattern], cwd=self.build, env=environment,
                                capture_output=True, encoding="utf-8", errors="replace", check=False)  # what a test prints may be any bytes
        verdicts = dict(re.findall(r"^ *\d+/\d+ Test +#\d+: (\S+) \.*(.*)$", result.stdout, re.MULTILINE))
        # A test whose fixture failed says nothing about the defence.
        return [test for test in tests if test in verdicts and "Passed" not in verdicts[test] and "Not Run" not in verdicts[test]], result.stdout


def judge(copy, patch, names):
    """None when the tests noticed, else what is wrong."""
    try:
        tests = patching.tests_of(patch, names)
        patch.apply(copy.source)
        try:
            problem = copy.compile(patch.targets)
            if problem:
                return f"does not build:\n{problem}"
            failing, words = copy.failing(tests, patch.cases)
            blind = [test for test in tests if test not in failing]
            return f"not noticed by {', '.join(blind)}\n{words[-1500:]}" if blind else None
        finally:
            for name in patch.files():
                copy.restore(name)
    except patching.Wrong as wrong:
        return str(wrong)


def choose(patches, rows, only):
    unknown = [name for name in only if name not in {patch.name for patch in patches}]
    if unknown:
        sys.exit(f"mutation: no patch is called {', '.join(unknown)}")
    chosen = [patch for patch in patches if (not rows and not only) or patch.row in rows or patch.name in only]
    if not chosen:
        sys.exit("mutation: no patch chosen")
    return chosen


def each(copies, work, items):
    """`work(copy, item)` for all items, in the order of `items`: a thread per copy, which takes the next one."""
    free = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def turn(item):
        copy = free.get()
        try:
            return work(copy, item)
        finally:
            free.put(copy)

    with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(turn, items))


def baseline(copies, patches, names):
    """Without a patch the named tests pass, with the same choice of cases; else a failing test would show nothing."""
    targets = sorted({target for patch in patches for target in patch.targets})
    for copy in copies:  # one after the other: each build has all cores
        if problem := copy.compile(targets):
            return [f"the copy does not build as it is:\n{problem}"]

    def passes(copy, cases):
        tests = sorted({test for patch in patches if patch.cases == cases for test in patching.tests_of(patch, names)})
        failing, words = copy.failing(tests, cases)
        if failing or "100% tests passed" not in words:
            return f"fails without any patch: {', '.join(failing) or tests}\n{words[-3000:]}"
        return None

    return [problem for problem in each(copies, passes, sorted({patch.cases for patch in patches})) if problem]


def run(root, build, rows=(), only=(), keep=False, folder=None, jobs=1):
    patches, findings = patching.read_all(folder or root / "tests" / "mutation")
    if findings:
        return findings
    chosen = choose(patches, rows, only)
    copies = [Copy(root, build, number) for number in range(min(jobs, len(chosen)))]
    for copy in copies:
        copy.refresh()
        copy.configure()
        copy.share_image()
    names = patching.ctest_names(copies[0].build)
    begun = time.monotonic()
    try:
        findings = baseline(copies, chosen, names)
    except patching.Wrong as wrong:
        findings = [str(wrong)]
    if findings:
        return findings
    say(f"all tests pass without a patch ({time.monotonic() - begun:.0f} s)")

    def verdict(copy, patch):
        begun = time.monotonic()
        problem = judge(copy, patch, names)
        say(f"row {patch.row}: {patch.name}: {'NOT NOTICED' if problem else 'noticed'} ({time.monotonic() - begun:.0f} s)")
        return f"{patch.name}: {problem}" if problem else None

    findings = [finding for finding in each(copies, verdict, chosen) if finding]
    if not keep:
        for copy in copies:
            shutil.rmtree(copy.source, ignore_errors=True)
    say(f"{len(chosen) - len(findings)} of {len(chosen)} patches were noticed")
    return findings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--row", type=int, action="append", default=[], help="only the patches of this row of the threat model")
    parser.add_argument("--only", action="append", default=[], help="only this patch (its file name without .patch)")
    parser.add_argument("--jobs", type=int, default=2, choices=range(1, 65), metavar="N", help="so many copies at once")
    parser.add_argument("--keep", action="store_true", help="keep the copy and its build for the next run")
    words = parser.parse_args()
    findings = run(words.root.resolve(), words.build.resolve(), words.row, words.only, words.keep, jobs=words.jobs)
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
