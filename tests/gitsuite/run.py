"""Runs git's own transport tests with git-remote-agentvm behind their remotes. README.md says how.

usage: run.py BUILD [--jobs N] [--audit] [SCRIPT]...

A case that table.txt does not name must pass; a script must come to its end and must have used the helper. With --audit the named
cases run over the helper too, and those that pass are printed.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import time

import scripts as running
import source
import table


def say(text):
    print(f"gitsuite: {text}", flush=True)


def install(build, prefix):
    """The product's programs with the manager of the tests among them, where a client looks for it."""
    shutil.rmtree(prefix, ignore_errors=True)
    (prefix / "bin").mkdir(parents=True)
    (prefix / "libexec/agentvm").mkdir(parents=True)
    for program, place in (("bin/agentvm", "bin/agentvm"), ("bin/git-remote-agentvm", "bin/git-remote-agentvm"), ("libexec/agentvm/agentvm-git", "libexec/agentvm/agentvm-git"),
                           ("tests/gitsuite_manager", "libexec/agentvm/agentvm-manager")):
        shutil.copy2(build / program, prefix / place)


def judge(script, left_out, outcome):
    """What is wrong with this run: lines of text."""
    wrong = [outcome.problem] if outcome.problem else []
    wrong += [f"case {number} fails: {outcome.titles[number]}" for number in sorted(outcome.failed)]
    if unknown := sorted(number for number in left_out if number not in outcome.titles):
        wrong.append(f"table.txt names cases that there are not: {unknown}")
    if not outcome.used:
        wrong.append("the helper was never asked")
    return [f"{script}: {line}" for line in wrong]


def run_all(runner, rows, jobs, audit):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        begun = {pool.submit(runner.run, script, () if audit else sorted(left_out)): script for script, left_out in rows.items()}
        for done in concurrent.futures.as_completed(begun):
            yield begun[done], done.result()


def report(reasons, rows, outcomes):
    count = collections.Counter()
    for script, outcome in outcomes.items():
        count["passed"] += len(outcome.passed - rows[script].keys())
        count["over the helper"] += len((outcome.passed & outcome.used) - rows[script].keys())
        count["skipped by git"] += len(outcome.skipped - rows[script].keys())
    left_out = collections.Counter(reason for script in outcomes for reason in rows[script].values())
    say(f"{len(outcomes)} scripts: " + ", ".join(f"{number} cases {name}" for name, number in count.items()))
    say(f"left out: {sum(left_out.values())} cases")
    for reason, number in left_out.most_common():
        say(f"  {number:4} {reason}: {reasons[reason]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("scripts", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--audit", action="store_true")
    options = parser.parse_args()
    build = options.build.resolve()
    work = build / "gitsuite"
    try:
        reasons, rows = table.load()
        tree = source.Source(work / "source").ready()
    except (source.SourceError, table.TableError) as error:
        sys.exit(f"gitsuite: {error}")
    rows = {script: cases for script, cases in rows.items() if not options.scripts or script in options.scripts}
    if not rows:
        sys.exit("gitsuite: table.txt has no such script")
    run_dir = work / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    install(build, work / "prefix")
    runner = running.Runner(run_dir, tree, work / "prefix", shutil.which("git"))
    runner.home.mkdir(parents=True)
    start, outcomes, wrong = time.monotonic(), {}, []
    try:
        for script, outcome in run_all(runner, rows, options.jobs, options.audit):
            outcomes[script] = outcome
            (run_dir / f"{script}.txt").write_text(outcome.text, encoding="utf-8")
            if options.audit:
                if fine := sorted(rows[script].keys() & outcome.passed & outcome.used):
                    say(f"{script}: these pass: {fine}")
                continue
            found = judge(script, rows[script], outcome)
            say(f"{script}: " + (f"{len(found)} wrong" if found else f"{len(outcome.passed - rows[script].keys())} passed"))
            wrong += found
    finally:
        stop = [str(work / "prefix/bin/agentvm"), "manager", "stop"]
        subprocess.run(stop, env={**os.environ, "AGENTVM_HOME": str(runner.home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    report(reasons, rows, outcomes)
    say(f"{time.monotonic() - start:.0f} s; what the scripts said is in {run_dir}")
    for line in wrong:
        say(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
