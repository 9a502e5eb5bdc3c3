"""A sandbox whose memory is on the disk: no machine is left, and what ran in it goes on in another one."""

import json
import os
import shutil
import signal
import time

import pytest

import harness

pytestmark = pytest.mark.skipif(not harness.qemu_saves_machines(), reason="this host's QEMU (8.1 or 8.2) cannot save machines")
NAME = "sleeper"
COUNTER = """cd /workspace && exec 3>half && printf 'first ' >&3
n=0; while [ ! -e go ]; do n=$((n+1)); echo "$$ $n" >/tmp/count; sleep 0.1; done; printf second >&3; pwd >/tmp/where"""


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project")


@pytest.fixture
def box(agentvm, repository):
    start(agentvm, repository)
    return NAME


def start(agentvm, repository):
    agentvm.run("start", repository, "--name", NAME, "--memory", "768M", "--workspace", "disk", "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)


def state(agentvm):
    return agentvm.json("status", NAME)["state"]


def machines(home):
    return harness.processes(home, "qemu-system")


def counted(agentvm):
    """Who counts, and how far."""
    words = harness.eventually(lambda: agentvm.exec(NAME, "sh", "-c", "cat /tmp/count 2>/dev/null || :").split(), 30, "it counts")
    return int(words[0]), int(words[1])


def test_what_ran_goes_on_in_another_machine(agentvm, home, box):
    agentvm.run("exec", NAME, "--detach", "--", "sh", "-c", COUNTER)
    agentvm.exec(NAME, "sh", "-c", "echo changed >>/workspace/README")
    before = counted(agentvm)
    pid = machines(home)
    result = agentvm.json("suspend", NAME, "--save", timeout=300)
    assert result["state"] == "saved" and result["reason"] == "user"
    assert result["saved_bytes"] > 1 << 20
    kept = [ref for ref in result["rescued"] if "/wip/" in ref]
    assert len(kept) == 1 and harness.git(home.folder / "project", "show", f"{kept[0]}:README") == "one\nchanged"
    assert not machines(home), "no machine is left"
    folder = home.state / "sandboxes" / NAME / "saved"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir())), "nobody else reads its memory"
    assert "of memory, on this host's disk" in agentvm.text("status", NAME)
    # As after a restart of the host: no manager, and nothing of this boot's.
    agentvm.run("manager", "stop")
    shutil.rmtree(home.folder / "run" / "agentvm", ignore_errors=True)
    assert any(row["name"] == NAME and row["state"] == "saved" for row in agentvm.json("list")["sandboxes"])
    assert agentvm.json("resume", NAME, timeout=harness.START_SECONDS)["state"] == "running"
    assert machines(home) and machines(home) != pid
    assert abs(float(agentvm.exec(NAME, "date", "+%s.%N")) - time.time()) < 5, "the guest has slept through it"
    after = counted(agentvm)
    assert after[0] == before[0], "the same process"
    assert before[1] < after[1] < before[1] + 600, "from where it was"
    agentvm.exec(NAME, "touch", "/workspace/go")
    harness.eventually(lambda: agentvm.exec(NAME, "sh", "-c", "cat /tmp/where 2>/dev/null || :") == "/workspace\n", 30, "it ended as it should")
    assert agentvm.exec(NAME, "cat", "/workspace/half") == "first second"
    assert not folder.exists(), "what it went on from is of no use any more"
    agentvm.exec(NAME, "sh", "-c", "cd /workspace && rm go half && git checkout -q README")
    tip = harness.commit_inside(agentvm, NAME, "new", "content")
    agentvm.run("sync", NAME)
    assert harness.git(home.folder / "project", "rev-parse", "HEAD") == tip


def test_what_needs_the_guest_names_the_command(agentvm, home, box, repository):
    agentvm.run("suspend", NAME)
    assert agentvm.json("suspend", NAME, "--save", timeout=300)["state"] == "saved", "a paused one can be saved"
    for words in (("exec", NAME, "--", "true"), ("sync", NAME), ("ssh", NAME, "--", "true")):
        result = agentvm.run(*words, code=None)
        assert result.returncode != 0 and b"is saved, not running" in result.stderr and b"agentvm resume " + NAME.encode() in result.stderr, words
    assert b"cannot be paused" in agentvm.run("suspend", NAME, code=None).stderr
    assert agentvm.json("suspend", NAME, "--save")["state"] == "saved", "once more changes nothing"
    status = json.loads(agentvm.run("start", repository, "--name", NAME, "--no-attach", "--json", timeout=harness.START_SECONDS).stdout)
    assert status["state"] == "running" and status["saved_bytes"] is None, "start resumes"


def test_damaged_memory_is_named_and_stop_drops_it(agentvm, home, box, repository):
    agentvm.exec(NAME, "sh", "-c", "echo kept >/workspace/untracked; touch /tmp/gone-with-the-boot; sync")
    agentvm.run("suspend", NAME, "--save", timeout=300)
    folder = home.state / "sandboxes" / NAME / "saved"
    state_file = folder / "device-state"
    whole = state_file.read_bytes()
    state_file.write_bytes(whole[: len(whole) // 2])
    refused = agentvm.run("resume", NAME, code=None)
    assert refused.returncode != 0 and b"not as it was written" in refused.stderr and b"agentvm stop " + NAME.encode() in refused.stderr
    assert state(agentvm) == "saved"
    state_file.write_bytes(whole)
    shutil.copytree(folder, home.folder / "aside")
    (folder / "memory").rename(folder / "elsewhere")
    assert b"not as it was written" in agentvm.run("resume", NAME, code=None).stderr
    stopped = agentvm.run("stop", NAME)
    assert b"what ran in 'sleeper' when it was saved is dropped" in stopped.stderr
    assert state(agentvm) == "stopped" and not folder.exists()
    shutil.copytree(home.folder / "aside", folder)  # as a backup that is put back: its disk is another one by now
    start(agentvm, repository)
    assert agentvm.exec(NAME, "sh", "-c", "cat /workspace/untracked; ls /tmp") == "kept\n", "its disk is what it was, and it booted"
    agentvm.run("manager", "stop")
    harness.eventually(lambda: agentvm.run("status", NAME) and not folder.exists(), 30, "what is of no use is swept")
    agentvm.exec(NAME, "rm", "/workspace/untracked")


@pytest.mark.parametrize("when", ["saving", "loading"])
def test_a_killed_manager_leaves_it_in_one_state(agentvm, home, box, repository, when):
    """Whatever it was at, the next manager knows what there is, and it goes on from there."""
    agentvm.run("exec", NAME, "--detach", "--", "sh", "-c", COUNTER)
    counted(agentvm)
    if when == "loading":
        agentvm.run("suspend", NAME, "--save", timeout=300)
    client = agentvm.popen(*(("suspend", NAME, "--save") if when == "saving" else ("resume", NAME)))
    folder = home.state / "sandboxes" / NAME
    sign = (lambda: (folder / "saved.new").exists()) if when == "saving" else (lambda: machines(home))
    harness.eventually(sign, 120, "it is at it")
    client.send_signal(signal.SIGSTOP)  # it would ask the next manager for the same
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    client.kill()
    client.wait(60)
    now = state(agentvm)
    assert now in (("running", "paused", "saved") if when == "saving" else ("saved", "failed"))
    start(agentvm, repository)
    assert agentvm.exec(NAME, "true") == ""
    if now != "failed":
        counted(agentvm)
        agentvm.exec(NAME, "sh", "-c", "touch /workspace/go")


def test_one_that_is_destroyed_leaves_its_work(agentvm, home, box):
    agentvm.exec(NAME, "sh", "-c", "echo last >>/workspace/README; sync")
    agentvm.run("suspend", NAME, "--save", timeout=300)
    result = agentvm.json("destroy", NAME, "--force", timeout=300)
    refs = harness.git(home.folder / "project", "for-each-ref", "--format=%(refname)", "refs/agentvm/sleeper/wip/").split()
    assert any("last" in harness.git(home.folder / "project", "show", f"{ref}:README") for ref in refs), result


def test_a_shared_workspace_is_not_saved(agentvm, repository):
    agentvm.run("start", repository, "--name", "sharing", "--memory", "512M", "--no-attach", timeout=harness.START_SECONDS)
    refused = agentvm.run("suspend", "sharing", "--save", code=None)
    assert refused.returncode != 0 and b"shares its workspace with this host" in refused.stderr
    assert agentvm.json("status", "sharing")["state"] == "running"
