"""kill -9 of the manager after each change of a sandbox's record: a clear state, nothing left over, and a retry heals. And a guest that hangs."""

import json
import os
import signal
import subprocess

import pytest

import harness
from record_watch import run_and_kill

NAME = "victim"
SMALL = "--name", NAME, "--memory", "1G", "--vcpus", "1", "--no-attach"
# "defined": nothing was begun for it.
SETTLED = "defined", "running", "stopped", "failed", "gone"
HANG_SECONDS = 180  # everything has its deadline well before


@pytest.fixture(scope="module")
def repository(home):
    made = harness.make_repository(home.folder / "project")
    (made / "notes").write_text("not committed\n")
    return made


@pytest.fixture
def box(agentvm, repository):
    """The sandbox, running."""
    start(agentvm, repository, code=(0, 2))
    return NAME


def start(agentvm, repository, code=0):
    return agentvm.run("start", repository, *SMALL, code=code, timeout=harness.START_SECONDS)


def state_of(agentvm):
    result = agentvm.run("status", NAME, "--json", code=(0, 1))
    return json.loads(result.stdout)["state"] if result.returncode == 0 else "gone"


def guests(home):
    return set(harness.processes(home, "qemu-system"))


def settled(agentvm, home):
    """The state that the next manager shows; there is what it says, and nothing else."""
    state = harness.eventually(lambda: (lambda now: now if now in SETTLED else None)(state_of(agentvm)), 60, "a settled state")
    expect_only(home, state)
    return state


def expect_only(home, state):
    """One machine for what runs, whose work is not taken for saved; for the rest none, no share and no socket."""
    if state == "running":
        assert len(guests(home)) == 1 and harness.record_of(home, NAME)["unsaved"]
        return
    harness.eventually(lambda: not guests(home), 30, f"{state}: no machine")
    harness.eventually(lambda: not harness.processes(home, "virtiofsd"), 30, f"{state}: no share")
    assert [name for name in harness.sockets(home) if name.endswith(("serial.sock", "agent.sock", "fs.sock"))] == []
    folders = {path.name for path in (home.state / "sandboxes").iterdir()}
    assert folders == (set() if state == "gone" else {NAME}), "nothing half made or half removed"


def expect_truth(ended, state, done):
    """The client said how it was. In its first half second it asks the next manager by itself, which may find nothing left to do."""
    if ended.code == 0:
        assert state == done
    elif ended.code == 3:
        assert "the manager ended while it worked on" in ended.said and "try: agentvm manager logs" in ended.said
    else:
        assert state == done and (ended.code, done) in ((1, "gone"), (2, "stopped"), (2, "running")) and ended.said.strip(), ended


class Places:
    """Where one operation's manager is killed, round by round: at these changes; else at the first change, the second and so on, to the last."""

    def __init__(self, *named):
        self.named, self.every = named, harness.FULL
        self.count, self.over = 0, False

    def take(self):
        """The next one; None when it is over."""
        if self.over:
            return None
        self.count += 1
        return self.count if self.every else self.named[self.count - 1]

    def note(self, ended):
        """A sweep that kills nothing shows nothing, nor does one that sees only a part of what is recorded."""
        if self.over:
            return
        self.over = not ended.killed if self.every else self.count == len(self.named)
        if not ended.killed:
            missing = [name for name in self.named if not any(name in step for step in ended.steps)]
            assert self.every and not missing, f"not seen: {missing} in {ended.steps}"


def interrupt(agentvm, home, places, done, *words):
    """The command, its manager killed at the next place; returns what there is then."""
    ended = run_and_kill(agentvm, NAME, places.take(), *words)
    places.note(ended)
    state = settled(agentvm, home)
    expect_truth(ended, state, done)
    return state


def start_through(agentvm, home, repository, places):
    """A start that is interrupted, and the next one, which comes through."""
    state = interrupt(agentvm, home, places, "running", "start", repository, *SMALL)
    start(agentvm, repository, code=2 if state == "running" else 0)
    expect_only(home, "running")


def stop_through(agentvm, home, places):
    state = interrupt(agentvm, home, places, "stopped", "stop", NAME)
    agentvm.run("stop", NAME, code=2 if state == "stopped" else 0)
    assert settled(agentvm, home) == "stopped"


def destroy_through(agentvm, home, places):
    state = interrupt(agentvm, home, places, "gone", "destroy", NAME, "--force")
    agentvm.run("destroy", NAME, "--force", code=1 if state == "gone" else 0)
    assert settled(agentvm, home) == "gone"


def kept(repository, tip, path, content):
    """The commit and the uncommitted file are in the references that the sandbox left."""
    refs = harness.git(repository, "for-each-ref", "--format=%(refname)", f"refs/agentvm/{NAME}").split()
    with_tip = harness.git(repository, "for-each-ref", "--format=%(refname)", "--contains", tip, f"refs/agentvm/{NAME}", check=False).split()
    assert [ref for ref in with_tip if "/wip/" not in ref], f"the commit is lost: {refs}"
    snapshots = [ref for ref in refs if "/wip/" in ref]
    assert content in [harness.git(repository, "show", f"{ref}:{path}", check=False) for ref in snapshots], f"{path} is lost: {refs}"


def works(agentvm, *more):
    """The guest answers, and the files are there that came along or were made before."""
    files = ["README", "notes", *more]
    assert agentvm.exec(NAME, "sh", "-c", f"cd /workspace && cat {' '.join(files)}") == "one\nnot committed\n" + "".join(more)


def work_inside(agentvm, name):
    """A commit and an uncommitted file; each file has its name as content."""
    tip = harness.commit_inside(agentvm, NAME, name, name)
    agentvm.exec(NAME, "sh", "-c", f"printf %s {name}-loose >/workspace/{name}-loose")
    return tip


def test_start_of_a_new_one_and_destroy(agentvm, home, repository):
    starts, destroys = Places("made", "ssh_port"), Places("state=destroying", "virtiofsd, teardown")
    while not (starts.over and destroys.over):
        start_through(agentvm, home, repository, starts)
        works(agentvm)
        work = f"work-{starts.count}-{destroys.count}"
        tip = work_inside(agentvm, work)
        destroy_through(agentvm, home, destroys)
        kept(repository, tip, f"{work}-loose", f"{work}-loose")


@harness.full_tier("a boot for each step")
def test_start_of_a_stopped_one_and_stop(agentvm, home, box, repository):
    tip = work_inside(agentvm, "inside")
    agentvm.run("stop", NAME)
    starts, stops = Places("state=starting", "state=running"), Places("unsaved", "boot, teardown")
    while not (starts.over and stops.over):
        start_through(agentvm, home, repository, starts)
        works(agentvm, "inside", "inside-loose")
        assert agentvm.exec(NAME, "git", "-C", "/workspace", "rev-parse", "HEAD").strip() == tip
        stop_through(agentvm, home, stops)
    kept(repository, tip, "inside-loose", "inside-loose")


@pytest.fixture
def on_disk_alone(agentvm, home, box, repository):
    """Makes a sandbox whose work the host lacks: stopped by force, it was not asked for it. One boot: each call takes a copy of what it left."""
    tip = work_inside(agentvm, "left")
    agentvm.run("stop", NAME, "--force")
    folder, copy = home.state / "sandboxes" / NAME, home.folder / "copy"
    folder.rename(copy)

    def make():
        for ref in harness.git(repository, "for-each-ref", "--format=%(refname)", f"refs/agentvm/{NAME}").split():
            harness.git(repository, "update-ref", "-d", ref)
        subprocess.run(["cp", "-a", "--sparse=always", copy, folder], check=True)
        assert harness.record_of(home, NAME)["unsaved"] and state_of(agentvm) == "stopped"
        return tip

    yield make
    subprocess.run(["rm", "-rf", copy], check=True)


@harness.full_tier("a boot for each step")
def test_work_on_the_disk_alone_outlives_every_end_of_a_destroy(agentvm, home, on_disk_alone, repository):
    destroys = Places("state=destroying", "gone")
    while not destroys.over:
        tip = on_disk_alone()
        destroy_through(agentvm, home, destroys)
        kept(repository, tip, "left-loose", "left-loose")
    on_disk_alone()
    ended = run_and_kill(agentvm, NAME, "state=destroying", "destroy", NAME, "--force", "--keep-disk")
    assert ended.killed and settled(agentvm, home) == "gone"
    assert len(list((home.state / "kept-disks").glob("*.qcow2"))) == 1, "asked for before it was killed"


@harness.full_tier("one more boot")
def test_what_a_fresh_start_was_removing_is_not_started(agentvm, home, on_disk_alone, repository):
    tip = on_disk_alone()
    ended = run_and_kill(agentvm, NAME, "state=destroying", "start", repository, *SMALL, "--fresh")
    assert ended.killed and settled(agentvm, home) in ("gone", "running")
    kept(repository, tip, "left-loose", "left-loose")
    start(agentvm, repository, code=(0, 2))
    works(agentvm)


@pytest.fixture
def hung(agentvm, home, box):
    """The sandbox, its machine stopped as a whole: neither the guest nor QEMU answers anything any more."""
    agentvm.exec(NAME, "sh", "-c", "printf %s hung >/workspace/hung && sync")
    machine, = guests(home)
    os.kill(machine, signal.SIGSTOP)
    yield machine
    if machine in guests(home):
        os.kill(machine, signal.SIGCONT)


def ask(agentvm, *words):
    return agentvm.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def answer(client):
    out, said = client.communicate(timeout=HANG_SECONDS)
    print(f"{client.args[1]}: exit {client.returncode}: {said.decode(errors='replace').strip()[-300:]!r}")
    return client.returncode, out.decode(), said.decode(errors="replace")


def test_a_guest_that_hangs_is_told_of_and_stopped(agentvm, home, box, repository, request):
    with ask(agentvm, "exec", NAME, "--", "sleep", "600") as before:
        harness.eventually(lambda: "sleep 600" in agentvm.exec(NAME, "ps", "-ef"), 60, "the command runs")
        machine = request.getfixturevalue("hung")
        with ask(agentvm, "status", NAME, "--json") as status, ask(agentvm, "exec", NAME, "--", "true") as after, ask(agentvm, "sync", NAME) as sync:
            code, shown, _ = answer(status)
            told = json.loads(shown)
            assert code == 0 and told["state"] == "running", "its machine is there"
            assert told["guest_agent"] == {"answers": False, "reason": "it was asked, and said nothing in time"}
            code, _, said = answer(before)
            assert code == 125 and "the state of the guest process is unknown" in said
            code, _, said = answer(after)
            assert code == 125 and "the guest did not answer for" in said
            code, _, said = answer(sync)
            assert code == 3 and "the guest did not answer for" in said
    with ask(agentvm, "sync", NAME) as sync:  # nothing is open any more: it has to dial, and nobody answers
        code, _, said = answer(sync)
        assert code == 7 and "no answer in time" in said
    with ask(agentvm, "stop", NAME, "--timeout", "5") as stopping:
        code, _, said = answer(stopping)
    assert code == 0 and f"'{NAME}' is stopped" in said
    assert "could not be copied to the host" in said and "it stays in the sandbox" in said
    assert machine not in guests(home) and settled(agentvm, home) == "stopped"
    healed = start(agentvm, repository)
    assert b"its uncommitted work is kept as" in healed.stderr
    works(agentvm, "hung")


def test_a_guest_that_hangs_keeps_no_manager_from_coming_up(agentvm, home, hung):
    harness.end_manager(agentvm)
    with ask(agentvm, "status", NAME, "--json") as status:
        code, shown, _ = answer(status)
        assert code == 0 and json.loads(shown)["state"] == "running" and json.loads(shown)["guest_agent"]["answers"] is False
    with ask(agentvm, "stop", NAME, "--force") as stopping:
        code, _, said = answer(stopping)
        assert code == 0 and f"'{NAME}' is stopped" in said
    assert hung not in guests(home) and settled(agentvm, home) == "stopped"
