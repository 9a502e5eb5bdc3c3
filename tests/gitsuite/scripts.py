"""Runs one script of git's t/ with our helper behind its remotes, and reads what it says of its cases."""

import dataclasses
import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
LINE = re.compile(r"^(not ok|ok) (\d+)(?: - (.*?))?(?: # (skip|[A-Z]{4})\b(.*))?$")


@dataclasses.dataclass
class Outcome:
    """Cases by number: their titles, those that passed, failed or were skipped by the script itself, and those in which our helper ran."""

    titles: dict[int, str]
    passed: set[int]
    failed: set[int]
    skipped: set[int]
    used: set[int]
    problem: str  # why the script did not come to its end; empty when it did
    text: str


def read_cases(text):
    """The cases in TAP as git's tests write it: {number: (verdict, title)}."""
    cases = {}
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        word, number, title, mark, _ = found.groups()
        # A breakage that git knows of (its mark is a word of four capitals) is none of ours; one that vanished is fine too.
        verdict = "skipped" if mark else "passed" if word == "ok" else "failed"
        cases[int(number)] = (verdict, title or "")
    return cases


class Runner:
    """A folder of its own: a home with the manager of the tests, and the scripts' output and trash."""

    def __init__(self, work, tree, prefix, git):
        self.work, self.tree, self.prefix, self.git = work, tree, prefix, git
        self.home = work / "home"

    def environment(self, script, direct):
        used = self.work / "used" / script
        used.parent.mkdir(parents=True, exist_ok=True)
        used.write_text("", encoding="utf-8")
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.home),
            "AGENTVM_HOME": str(self.home),
            "TEST_OUTPUT_DIRECTORY": str(self.work / "out"),
            "GIT_TEST_INSTALLED": str(HERE / "shim"),
            "GIT_TEST_DEFAULT_HASH": "sha1",
            "GITSUITE_GIT": self.git,
            "GITSUITE_HELPER": str(self.prefix / "bin/git-remote-agentvm"),
            "GITSUITE_DIRECT": " ".join(map(str, direct)),
            "GITSUITE_USED": str(used),
            # Exported by being in the environment: the shim reads there which case is running.
            "test_count": "0",
        }

    def run(self, script, direct, limit_seconds=900, options=()):
        (self.work / "out").mkdir(parents=True, exist_ok=True)
        environment = self.environment(script, direct)
        command = ["/bin/sh", f"./{script}.sh", f"--root={self.work / 'trash'}", *options]
        problem = ""
        try:
            result = subprocess.run(command, cwd=self.tree / "t", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit_seconds, check=False)
            text = result.stdout
        except subprocess.TimeoutExpired as expired:
            text, problem = (expired.stdout or b"").decode(errors="replace"), f"did not end in {limit_seconds} s"
        cases = read_cases(text)
        if not problem and not re.search(r"^1\.\.\d+", text, re.MULTILINE):
            problem = "ended early: " + (text.strip().splitlines() or ["no word"])[-1]
        by_verdict = {verdict: {number for number, (said, _) in cases.items() if said == verdict} for verdict in ("passed", "failed", "skipped")}
        used = {int(line) for line in (self.work / "used" / script).read_text(encoding="utf-8").split()}
        return Outcome({number: title for number, (_, title) in cases.items()}, **by_verdict, used=used, problem=problem, text=text)
