"""A sandbox whose vCPUs are stopped for a while: nothing in it runs, nothing of it is lost, and all of it goes on."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import harness

NAME = "sleeper"
KEEPALIVE_SECONDS = 15  # after this much silence an ssh session is taken for lost


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project")


@pytest.fixture
def box(agentvm, repository):
    agentvm.run("start", repository, "--name", NAME, "--memory", "1G", "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)
    return NAME


def state(agentvm):
    return agentvm.json("status", NAME)["state"]


def processor_ticks(home):
    pid = next(iter(harness.processes(home, "qemu-system")))
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_everything_goes_on_where_it_was(agentvm, home, box):
    agentvm.run("exec", NAME, "--detach", "--", "sh", "-c",
                "cd /workspace && exec 3>half && printf 'first ' >&3 && n=0; while [ ! -e go ]; do n=$((n+1)); echo $n >/tmp/count; sleep 0.1; done; "
                "printf second >&3; pwd >/tmp/where")
    harness.eventually(lambda: agentvm.run("exec", NAME, "--", "test", "-s", "/tmp/count", code=None).returncode == 0, 30, "it counts")
    with agentvm.popen("exec", NAME, "--", "sh", "-c", "echo begun; read line; echo $line", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"begun\n"
        agentvm.exec(NAME, "sh", "-c", "echo changed >>/workspace/README")
        result = agentvm.json("suspend", NAME)
        assert result["state"] == "paused" and result["reason"] == "user"
        kept = [ref for ref in result["rescued"] if "/wip/" in ref]
        assert len(kept) == 1 and harness.git(home.folder / "project", "show", f"{kept[0]}:README") == "one\nchanged"
        before = processor_ticks(home)
        time.sleep(KEEPALIVE_SECONDS * 1.5)
        assert processor_ticks(home) - before < 50, "half a second of processor time in 22 s is more than a stopped guest needs"
        assert running.poll() is None, "a silent guest was taken for lost"
        agentvm.run("resume", NAME)
        assert state(agentvm) == "running"
        running.stdin.write(b"went on\n")
        running.stdin.close()
        assert running.stdout.read() == b"went on\n" and running.wait(30) == 0
    assert abs(float(agentvm.exec(NAME, "date", "+%s.%N")) - time.time()) < 5, "the guest has slept through it"
    count = int(agentvm.exec(NAME, "cat", "/tmp/count"))
    harness.eventually(lambda: int(agentvm.exec(NAME, "cat", "/tmp/count") or 0) > count, 30, "it counts on")
    agentvm.exec(NAME, "touch", "/workspace/go")
    harness.eventually(lambda: agentvm.exec(NAME, "sh", "-c", "cat /tmp/where 2>/dev/null || :") == "/workspace\n", 30, "it ended as it should")
    assert agentvm.exec(NAME, "cat", "/workspace/half") == "first second"
    agentvm.exec(NAME, "sh", "-c", "cd /workspace && rm go half && git checkout -q README")


def test_what_needs_the_guest_names_the_command(agentvm, box, repository):
    agentvm.run("suspend", NAME)
    for words in (("ports", NAME), ("exec", NAME, "--", "true"), ("sync", NAME), ("ssh", NAME, "--", "true")):
        result = agentvm.run(*words, code=None)
        assert result.returncode != 0 and b"is paused, not running" in result.stderr and b"agentvm resume " + NAME.encode() in result.stderr, words
    assert agentvm.json("suspend", NAME)["state"] == "paused", "once more changes nothing"
    assert any(row["name"] == NAME and row["state"] == "paused" for row in agentvm.json("list")["sandboxes"])
    agentvm.run("start", repository, "--name", NAME, "--no-attach", "--fresh", code=2)
    assert state(agentvm) == "paused", "who asks for a fresh one does not get the old one"
    status = json.loads(agentvm.run("start", repository, "--name", NAME, "--no-attach", "--json", timeout=harness.START_SECONDS).stdout)
    assert status["state"] == "running", "start resumes"
    assert agentvm.exec(NAME, "echo", "here") == "here\n"
    assert agentvm.json("resume", NAME)["state"] == "running", "once more changes nothing"


def test_git_wakes_it_when_the_configuration_says_so(agentvm, home, box, repository):
    tip = harness.commit_inside(agentvm, NAME, "x", "inside\n")
    agentvm.run("suspend", NAME)
    environment = home.environment() | {"PATH": f"{harness.BUILD / 'bin'}:{os.environ['PATH']}"}

    def fetch(*settings):
        return subprocess.run(["git", *settings, "fetch", f"agentvm::{NAME}", "main"], cwd=repository, env=environment, capture_output=True,
                              text=True, check=False, timeout=120)

    refused = fetch()
    assert refused.returncode != 0 and f"agentvm resume {NAME}" in refused.stderr and state(agentvm) == "paused"
    woken = fetch("-c", "agentvm.wake=true")
    assert woken.returncode == 0, woken.stderr
    assert harness.git(repository, "rev-parse", "FETCH_HEAD") == tip and state(agentvm) == "running"


def test_a_manager_that_comes_later_resumes_it(agentvm, home, box):
    agentvm.run("suspend", NAME)
    harness.end_manager(agentvm)
    assert state(agentvm) == "paused"
    agentvm.run("resume", NAME)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    assert agentvm.json("ports", NAME)["ports"] == []


@pytest.mark.parametrize("written, really", [("running", "paused"), ("paused", "running")])
def test_the_machine_is_the_truth(agentvm, home, box, written, really):
    if really == "paused":
        agentvm.run("suspend", NAME)
    harness.end_manager(agentvm)
    harness.rewrite_record(home, NAME, state=written)
    status = agentvm.json("status", NAME)
    assert status["state"] == really and status["reason"] == "host"
    agentvm.run("resume", NAME)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"


def test_stopping_lets_it_end_in_order(agentvm, home, box, repository):
    agentvm.exec(NAME, "sh", "-c", "echo late >/workspace/late")
    agentvm.run("suspend", NAME)
    status = agentvm.json("stop", NAME)
    assert status["state"] == "stopped"
    kept = [ref for ref in status["rescued"] if "/wip/" in ref]
    assert [harness.git(repository, "show", f"{ref}:late") for ref in kept] == ["late"]


def test_a_machine_killed_while_it_is_suspended_is_a_crash(agentvm, home, box, repository):
    agentvm.exec(NAME, "sh", "-c", "echo more >/workspace/more")
    agentvm.run("suspend", NAME)
    assert harness.record_of(home, NAME)["unsaved"], "the guest went on after its work was looked at"
    for pid in harness.processes(home, "qemu-system"):
        os.kill(pid, signal.SIGKILL)
    harness.eventually(lambda: state(agentvm) in ("failed", "stopped"), 60, "the end is told")
    agentvm.run("destroy", NAME, "--force")
    assert not (home.state / "sandboxes" / NAME).exists()


def test_destroy_while_suspended_asks_the_guest_first(agentvm, box, repository):
    tip = harness.commit_inside(agentvm, NAME, "last", "words\n")
    agentvm.run("suspend", NAME)
    agentvm.run("destroy", NAME, "--force")
    assert harness.git(repository, "rev-parse", f"refs/agentvm/{NAME}/main") == tip


@pytest.fixture
def small_disk(image):
    """A home whose state lies on a file system that a hundred MiB fill."""
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    made = harness.Home.make()
    place = made.folder / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m,mode=700", "tmpfs", str(place)], check=True)
    try:
        yield made
    finally:
        harness.remove(made)


@contextlib.contextmanager
def asleep(pid):
    """A manager that looks at nothing: its guard would pause a guest before the disk is full (test_abuse.py)."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def free(place):
    return os.statvfs(place).f_bavail * os.statvfs(place).f_frsize


def fill(place):
    """Takes the end of a file system that a guest fills, to the last block: nothing can be recorded there, either."""
    harness.eventually(lambda: free(place) < 32 << 20, 120, "the guest fills it")
    with contextlib.suppress(OSError), open(place / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))


@harness.full_tier("one more disk to fill")
def test_a_full_disk_of_the_host_suspends_it(small_disk):
    agentvm = harness.Agentvm(small_disk)
    agentvm.start(harness.make_repository(small_disk.folder / "project"), NAME, "--memory", "1G")
    place = small_disk.folder / "state"
    before = free(place)
    with agentvm.popen("exec", NAME, "--", "sudo", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=160", "conv=fsync", stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL) as writing:
        harness.eventually(lambda: free(place) < before - (8 << 20), 60, "the guest writes")
        with asleep(agentvm.manager_pid()):
            fill(place)
        harness.eventually(lambda: state(agentvm) == "paused", 120, "the pause is noticed")
        status = agentvm.json("status", NAME)
        assert status["reason"] == "host" and "disk of the host is full" in status["message"]
        refused = agentvm.run("exec", NAME, "--", "true", code=None)
        assert refused.returncode != 0 and b"disk of the host is full" in refused.stderr and b"agentvm resume" in refused.stderr
        subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
        agentvm.run("resume", NAME)
        assert writing.wait(120) == 0, "what was being written has been written"
    assert state(agentvm) == "running"
    assert agentvm.exec(NAME, "stat", "-c", "%s", "/big") == f"{160 << 20}\n"
    agentvm.run("destroy", NAME, "--force")
    agentvm.run("manager", "stop", code=(0, 2))
    assert not harness.processes(small_disk)
