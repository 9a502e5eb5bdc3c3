"""Nothing that was not committed is lost: the timer, a crash, stop and destroy keep it on the host, and `wip` brings it back. In order, on one guest."""

import os
import signal

import pytest

import harness

NAME = "keeper"
INTERVAL_SECONDS = 3


@pytest.fixture(scope="module")
def repository(home):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    config.write_text(config.read_text() + f"wip:\n  interval_seconds: {INTERVAL_SECONDS}\n")
    return harness.make_repository(home.folder / "project", {".gitignore": "ignored\n", "a.txt": "one\n", "b.txt": "one\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME, "--memory", "1G")
    return NAME


def write(agentvm, path, content):
    agentvm.exec(NAME, "sh", "-c", f"printf %s '{content}' >/workspace/{path}")


def end_by_force(agentvm, repository, path, uncommitted):
    """Starts it, commits `path`, leaves `uncommitted` in b.txt, and ends it so that nobody inside can be asked; returns the commit."""
    agentvm.run("start", repository, "--name", NAME, "--no-attach", timeout=harness.START_SECONDS)
    tip = harness.commit_inside(agentvm, NAME, path, "committed\n")
    write(agentvm, "b.txt", uncommitted)
    agentvm.exec(NAME, "sync")
    agentvm.run("stop", NAME, "--force")
    return tip


def snapshots(agentvm, kind=None):
    return [entry for entry in agentvm.json("wip", "list", NAME)["wip"] if kind in (None, entry["kind"])]


def content(repository, entry, path):
    return harness.git(repository, "show", f"{entry['ref']}:{path}", check=False)


def test_the_timer_keeps_uncommitted_work_once(agentvm, box, repository):
    before = agentvm.exec(box, "git", "-C", "/workspace", "for-each-ref")
    write(agentvm, "a.txt", "two\n")
    write(agentvm, "new", "fresh\n")
    write(agentvm, "ignored", "secret\n")
    agentvm.exec(box, "git", "-C", "/workspace", "add", "a.txt")
    entry = harness.eventually(lambda: next((e for e in snapshots(agentvm) if content(repository, e, "new") == "fresh"), None), 60, "a snapshot")
    assert entry["ref"].startswith(f"refs/agentvm/{box}/wip/") and entry["kind"] == "timer"
    assert entry["branch"] == "main" and entry["base"] == harness.git(repository, "rev-parse", "HEAD") and entry["files_changed"] == 2
    assert content(repository, entry, "a.txt") == "two" and content(repository, entry, "ignored") == ""
    assert agentvm.exec(box, "git", "-C", "/workspace", "status", "--porcelain") == "M  a.txt\n?? new\n"
    assert agentvm.exec(box, "git", "-C", "/workspace", "for-each-ref") == before
    assert harness.git(repository, "status", "--porcelain") == ""
    known = len(snapshots(agentvm))
    agentvm.exec(box, "sleep", str(2 * INTERVAL_SECONDS))
    assert len(snapshots(agentvm)) == known


def test_a_crash_loses_nothing(agentvm, home, box, repository):
    # After the last snapshot of the timer, so that only the next start can save it.
    config = home.folder / "config" / "agentvm" / "config.yaml"
    config.write_text(config.read_text().replace(f"interval_seconds: {INTERVAL_SECONDS}", "interval_seconds: 0"))
    harness.eventually(lambda: agentvm.run("exec", box, "--", "test", "-e", "/var/tmp/agentvm-wip", code=None).returncode == 1, 120,
                       "no snapshot is on its way")
    write(agentvm, "b.txt", "just before the crash\n")
    agentvm.exec(box, "sync")
    for pid in harness.processes(home, "qemu-system"):
        os.kill(pid, signal.SIGKILL)
    status = harness.eventually(lambda: (s := agentvm.json("status", box))["state"] == "failed" and s, 60, "the crash is seen")
    assert status["unsaved"] is True
    terminal = agentvm.spawn("destroy", box)
    terminal.expect("since its work was last kept")
    terminal.expect("Destroy")
    terminal.sendline("n")
    assert harness.exit_status(terminal) == 5
    started = agentvm.run("start", repository, "--name", box, "--no-attach", timeout=harness.START_SECONDS)
    assert b"did not end in order" in started.stderr
    newest = snapshots(agentvm)[0]
    assert newest["kind"] == "kept" and content(repository, newest, "b.txt") == "just before the crash"
    assert agentvm.exec(box, "cat", "/workspace/b.txt") == "just before the crash\n"


def test_show_is_clean_and_apply_leaves_it_uncommitted(agentvm, box, repository):
    agentvm.exec(box, "sh", "-c", r"printf 'x\033]0;title\007y\n' >/workspace/c.txt; printf 'all:\n\ttrue\n' >/workspace/Makefile")
    stopped = agentvm.json("stop", box)
    wip = [ref for ref in stopped["rescued"] if "/wip/" in ref]
    assert len(wip) == 1 and stopped["unsaved"] is False
    shown = agentvm.run("wip", "show", box).stdout
    assert b"\033" not in shown and b"\007" not in shown and b"+just before the crash" in shown and b"c.txt" in shown
    (repository / "b.txt").write_text("mine\n")
    conflict = agentvm.json("wip", "apply", box, code=6)
    assert conflict["result"] == "conflict" and conflict["conflicts"] == ["b.txt"]
    assert b"b.txt" in agentvm.run("wip", "apply", box, code=6).stdout
    harness.git(repository, "checkout", "-q", "b.txt")
    gated = agentvm.json("wip", "apply", box, code=6)
    assert gated["result"] == "gated" and [g["path"] for g in gated["gated"]] == ["Makefile"]
    assert harness.git(repository, "status", "--porcelain") == ""
    tip = harness.git(repository, "rev-parse", "HEAD")
    assert agentvm.json("wip", "apply", box, "--accept")["result"] == "applied"
    assert harness.git(repository, "status", "--porcelain") == "M a.txt\n M b.txt\n?? Makefile\n?? c.txt\n?? new"
    assert harness.git(repository, "rev-parse", "HEAD") == tip
    assert agentvm.json("wip", "apply", box)["result"] == "up-to-date"


def test_a_fresh_start_keeps_what_the_old_state_held(agentvm, box, repository):
    tip = end_by_force(agentvm, repository, "old.txt", "before the fresh start")
    known = {entry["ref"] for entry in snapshots(agentvm)}
    refused = agentvm.run("sync", box, code=2).stderr.decode()
    assert "agentvm start" in refused and sorted(known)[-1] in refused, "what is on the host already is named"
    started = agentvm.run("start", repository, "--name", box, "--fresh", "--no-attach", timeout=harness.START_SECONDS).stderr.decode()
    (kept,) = [entry for entry in snapshots(agentvm) if entry["ref"] not in known]
    assert f"its work is kept as {kept['ref']}" in started
    assert content(repository, kept, "b.txt") == "before the fresh start"
    assert harness.git(repository, "merge-base", tip, kept["ref"]) == tip
    assert agentvm.exec(box, "cat", "/workspace/b.txt") == (repository / "b.txt").read_text()
    agentvm.run("stop", box)


def test_it_outlives_the_sandbox_until_it_is_dropped(agentvm, box, repository):
    # Ended by force and not started again: nobody is left inside who could be asked.
    tip = end_by_force(agentvm, repository, "late.txt", "written last")
    known = snapshots(agentvm)
    destroyed = agentvm.json("destroy", box, "--force")
    assert len([ref for ref in destroyed["rescued"] if "/wip/" in ref]) == 1, destroyed
    kept = agentvm.json("wip", "list", box, cwd=repository)["wip"]
    assert len(kept) == len(known) + 1
    assert content(repository, kept[0], "b.txt") == "written last"
    assert harness.git(repository, "merge-base", tip, kept[0]["ref"]) == tip
    assert [e["ref"] for e in agentvm.json("wip", "list", box, cwd=repository)["wip"]] == [e["ref"] for e in kept]
    assert agentvm.json("wip", "list", cwd=repository)["wip"][0]["sandbox"] == box
    agentvm.run("wip", "drop", box, "--all", code=64, cwd=repository)
    agentvm.run("wip", "drop", box, kept[0]["name"], "--force", cwd=repository)
    assert kept[0]["ref"] not in harness.git(repository, "for-each-ref", "--format=%(refname)")
    terminal = agentvm.spawn("wip", "drop", box, "--all", cwd=repository)
    terminal.expect("Drop")
    terminal.sendline("y")
    assert harness.exit_status(terminal) == 0
    assert harness.git(repository, "for-each-ref", f"refs/agentvm/{box}/wip") == ""
    agentvm.run("wip", "show", box, code=1, cwd=repository)
