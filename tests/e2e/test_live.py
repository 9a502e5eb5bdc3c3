"""Commits that come home by themselves: auto-commit, auto-idle, `sync --watch`, and what ends or interrupts them. One guest for the whole file."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

import harness

NAME = "live"
IDLE_SECONDS = 3


@pytest.fixture(scope="module")
def repository(home):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    config.write_text(config.read_text() + f"sync:\n  idle_seconds: {IDLE_SECONDS}\n")
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME, "--sync-mode", "auto-commit")
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "up-to-date", seconds=60, what="a first look after the start")
    return NAME


def sync_of(agentvm):
    return agentvm.json("status", NAME)["sync"]


def tip(repository, ref=f"refs/agentvm/{NAME}/main"):
    return harness.git(repository, "rev-parse", "-q", "--verify", ref, check=False)


def arrives(repository, commit, ref=f"refs/agentvm/{NAME}/main", seconds=60):
    harness.eventually(lambda: tip(repository, ref) == commit, seconds, f"{commit} as {ref}")


def replace_manager(agentvm, change=lambda record: None):
    """Kills the manager, changes the record as another start would have, and asks for a new manager."""
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    path = agentvm.home.state / "sandboxes" / NAME / "record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return agentvm.json("status", NAME)


@contextlib.contextmanager
def following(agentvm):
    process = agentvm.popen("sync", NAME, "--watch", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline())["schema"] == "agentvm.sync/1"  # what it found when it began
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_commit_comes_by_itself_and_moves_the_branch(agentvm, box, repository):
    commit = harness.commit_inside(agentvm, box, "b.txt", "two")
    arrives(repository, commit)
    harness.eventually(lambda: sync_of(agentvm)["state"] == "watching", 60, what="the sync is over")
    assert tip(repository, "main") == commit and (repository / "b.txt").read_text() == "two"
    sync = sync_of(agentvm)
    assert (sync["mode"], sync["last_result"], sync["pending_commits"], sync["last_error"]) == ("auto-commit", "updated", 0, None)
    # A worktree's commit is one, too.
    script = "cd /workspace && git worktree add -q -b side /tmp/side && cd /tmp/side && git commit -q --allow-empty -m Side && git rev-parse HEAD"
    arrives(repository, agentvm.exec(box, "sh", "-c", script).strip(), f"refs/agentvm/{NAME}/side")


def test_what_the_gate_holds_is_not_asked_again(agentvm, box, repository):
    before = tip(repository, "main")
    commit = harness.commit_inside(agentvm, box, "Makefile", "all:")
    arrives(repository, commit)
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "gated", 60, what="held by the gate")
    held = sync_of(agentvm)
    agentvm.exec(box, "sh", "-c", "cd /workspace && touch not-committed && git add -A && git reset -q && rm not-committed")
    time.sleep(2.5)
    assert sync_of(agentvm)["last_time"] == held["last_time"] and sync_of(agentvm)["state"] == "watching"
    assert tip(repository, "main") == before and not (repository / "Makefile").exists()
    assert b"Makefile" in agentvm.run("sync", box, "--accept", code=6).stdout, "what a sync by itself found was shown to nobody"
    agentvm.run("sync", box, "--accept")
    assert tip(repository, "main") == commit


def test_work_of_the_users_own_is_not_touched_and_shown_until_it_is_clean(agentvm, box, repository):
    """Whatever the modes do: uncommitted changes hold the branch, its commits are here all the same, and once the tree is clean it follows by itself."""
    before = tip(repository, "main")
    (repository / "a.txt").write_text("not committed\n")
    commit = harness.commit_inside(agentvm, box, "held.txt", "held")
    arrives(repository, commit)
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "dirty", 60, what="held by the user's own work")
    assert b"last dirty at" in agentvm.run("status", box).stdout
    assert tip(repository, "main") == before and not (repository / "held.txt").exists()
    assert (repository / "a.txt").read_text() == "not committed\n", "nothing of the user's is lost"
    assert b"uncommitted changes" in agentvm.run("sync", box, code=6).stdout
    commit = harness.commit_inside(agentvm, box, "held2.txt", "held too")
    arrives(repository, commit)
    harness.git(repository, "checkout", "-q", "--", "a.txt")
    arrives(repository, commit, "main")
    assert (repository / "held.txt").exists() and (repository / "held2.txt").exists()
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "updated", 60, what="and it says so")


def test_a_file_in_the_way_and_a_manager_that_ends_meanwhile(agentvm, box, repository):
    """What holds the branch need not be git's, and the user may clear it away while nobody watches."""
    (repository / "way.txt").write_text("mine\n")
    commit = harness.commit_inside(agentvm, box, "way.txt", "theirs")
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "dirty", 60, what="held by a file that git does not know")
    (repository / "way.txt").rename(repository / "mine.txt")
    arrives(repository, commit, "main")
    assert (repository / "way.txt").read_text() == "theirs" and (repository / "mine.txt").read_text() == "mine\n"
    (repository / "mine.txt").unlink()

    (repository / "a.txt").write_text("not committed\n")
    commit = harness.commit_inside(agentvm, box, "held3.txt", "held as well")
    harness.eventually(lambda: sync_of(agentvm)["last_result"] == "dirty", 60, what="held by the user's own work")
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    harness.git(repository, "checkout", "-q", "--", "a.txt")
    agentvm.run("status", box)  # asks for a new manager
    arrives(repository, commit, "main")


def test_a_sync_that_fails_is_shown_and_tried_again(agentvm, box, repository):
    away = repository.with_name("away")
    repository.rename(away)
    try:
        commit = harness.commit_inside(agentvm, box, "late.txt", "late")
        harness.eventually(lambda: sync_of(agentvm)["state"] == "backing-off", 60, what="a failure is shown")
        shown = sync_of(agentvm)
        assert str(repository) in shown["last_error"] and shown["next_time"], shown
        assert b"(tried again at " in agentvm.run("status", box).stdout
    finally:
        away.rename(repository)
    arrives(repository, commit, "main")
    harness.eventually(lambda: sync_of(agentvm)["state"] == "watching", 60, what="all is well again")
    assert sync_of(agentvm)["last_error"] is None


def test_a_watch_prints_each_sync_and_ends_with_the_signal(agentvm, box, repository):
    with following(agentvm) as process:
        commit = harness.commit_inside(agentvm, box, "c.txt", "three")
        line = json.loads(process.stdout.readline())
        assert (line["result"], line["new_tip"], line["moved"]) == ("updated", commit, True)
        agentvm.run("sync", box)  # somebody else's, too
        assert json.loads(process.stdout.readline())["result"] == "up-to-date"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_what_was_committed_while_no_manager_ran_is_fetched_by_the_next(agentvm, box, repository):
    script = (f"cd /workspace && sleep 2 && echo four >d.txt && git add d.txt && git {' '.join(harness.IDENTITY)} commit -qm Four && "
              "git rev-parse HEAD >/tmp/tip.new && mv /tmp/tip.new /tmp/tip")
    agentvm.run("exec", box, "--detach", "--", "sh", "-c", script)
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    time.sleep(6)
    commit = harness.eventually(lambda: agentvm.run("exec", box, "--", "cat", "/tmp/tip", code=None).stdout.decode().strip(), what="the commit")
    arrives(repository, commit, "main")


def test_who_follows_goes_along_with_the_next_manager(agentvm, box, repository):
    with following(agentvm) as process:
        os.kill(agentvm.manager_pid(), signal.SIGKILL)
        commit = harness.commit_inside(agentvm, box, "next.txt", "next")
        line = json.loads(process.stdout.readline())
        while line["new_tip"] != commit:
            line = json.loads(process.stdout.readline())
        assert line["result"] == "updated"
    arrives(repository, commit, "main")


def test_a_manual_sandbox_counts_and_syncs_while_it_is_followed(agentvm, box, repository):
    replace_manager(agentvm, lambda record: record.update(sync_mode="manual"))
    commit = harness.commit_inside(agentvm, box, "e.txt", "five")
    harness.eventually(lambda: sync_of(agentvm)["pending_commits"] == 1, 60, what="one commit is pending")
    assert sync_of(agentvm)["state"] == "pending" and tip(repository) != commit
    assert b"1 commit not yet on the host" in agentvm.run("status", box).stdout
    with following(agentvm) as process:
        arrives(repository, commit, "main")
        commit = harness.commit_inside(agentvm, box, "f.txt", "six")
        assert json.loads(process.stdout.readline())["new_tip"] == commit


def test_idle_waits_until_the_branches_are_quiet(agentvm, box, repository):
    replace_manager(agentvm, lambda record: record.update(sync_mode="auto-idle"))
    for number in range(3):
        last = time.monotonic()  # the commit is made after this
        commit = harness.commit_inside(agentvm, box, f"idle{number}.txt", str(number))
        time.sleep(0.5)
    arrives(repository, commit, "main")
    assert time.monotonic() - last > IDLE_SECONDS
    assert sync_of(agentvm)["mode"] == "auto-idle"


def test_a_flood_of_hints_costs_little_and_a_stop_goes_first(agentvm, box, repository):
    replace_manager(agentvm, lambda record: record.update(sync_mode="auto-commit"))
    flood = "cd /workspace && for i in $(seq 100000); do git update-ref refs/heads/flood $(git rev-parse HEAD~$((i % 2))); done"
    agentvm.run("exec", box, "--detach", "--", "sh", "-c", flood)
    harness.eventually(lambda: tip(repository, f"refs/agentvm/{NAME}/flood"), 60, what="the flood is seen")
    begun = time.monotonic()
    commit = harness.commit_inside(agentvm, box, "g.txt", "seven")
    agentvm.run("stop", box, "--sync")
    assert time.monotonic() - begun < 90
    assert tip(repository, "main") == commit
    status = agentvm.json("status", box)
    assert (status["state"], status["sync"]["state"]) == ("stopped", "off")
