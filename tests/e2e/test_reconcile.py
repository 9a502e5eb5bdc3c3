"""What a manager finds when it starts: machines and records that do not fit together. Each is brought into line, told, and a start heals it."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time

import pytest

import harness

NAME = "victim"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project")


@pytest.fixture
def box(agentvm, repository):
    """The sandbox, running, and the manager that started it, which the test may kill."""
    agentvm.run("start", repository, "--name", NAME, "--memory", "1G", "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)
    return NAME


@pytest.fixture
def bystander():
    """A process of somebody else, whose pid a record happens to name."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    alive = process.poll() is None
    process.kill()
    process.wait()
    assert alive, "a process that is none of ours was ended"


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def guests(home):
    return set(harness.processes(home, "qemu-system"))


def ended(home):
    harness.eventually(lambda: not guests(home), 60, "the machine is ended")
    harness.eventually(lambda: not harness.processes(home, "virtiofsd"), 30, "its share, too")
    sockets = [name for name in harness.sockets(home) if name.endswith(("serial.sock", "agent.sock", "fs.sock"))]
    assert sockets == []


def heals(agentvm, repository):
    agentvm.start(repository, NAME)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"


def test_a_machine_without_a_record_is_ended_and_told(agentvm, home, box, repository):
    harness.end_manager(agentvm)
    folder = home.state / "sandboxes" / NAME
    kept = home.folder / "kept"
    shutil.move(folder, kept)
    assert agentvm.sandboxes() == []
    harness.eventually(lambda: not guests(home), 60, "the machine is ended")
    assert "a machine of ours without a record" in (home.state / "manager.log").read_text()
    kill(harness.processes(home, "virtiofsd"))  # only its record knew it
    shutil.move(kept, folder)
    harness.end_manager(agentvm)
    assert agentvm.json("status", NAME)["state"] == "failed"
    heals(agentvm, repository)


def test_what_is_left_of_a_folder_that_went_by_hand_is_named_and_removed(agentvm, home, box, repository):
    folder = home.state / "sandboxes" / NAME
    kept = home.folder / "kept"
    shutil.move(folder, kept)
    check = leftovers(agentvm)
    assert check["status"] == "warn" and check["remedy"] == "agentvm doctor --fix" and check["data"]["machines"] == 1
    assert guests(home), "doctor alone ends nothing"
    (home.state / "sandboxes" / "odd").mkdir()
    (home.state / "sandboxes" / "odd" / "record.json").write_text("{")
    assert leftovers(agentvm, "--fix")["data"]["machines"] == 0 and guests(home), "it may be the machine of the record that cannot be read"
    shutil.rmtree(home.state / "sandboxes" / "odd")
    assert leftovers(agentvm, "--fix")["status"] == "pass"
    harness.eventually(lambda: not guests(home), 60, "the machine is ended")
    kill(harness.processes(home, "virtiofsd"))  # only its record knew it
    assert leftovers(agentvm)["data"] == {"machines": 0, "folders": 0, "fixed": False}
    shutil.move(kept, folder)
    harness.end_manager(agentvm)
    heals(agentvm, repository)


def leftovers(agentvm, *options):
    checks = agentvm.json("doctor", *options, code=(0, 4))["checks"]
    return next(check for check in checks if check["id"] == "leftovers")


def test_a_record_without_a_machine_says_what_happened(agentvm, home, box, repository):
    harness.end_manager(agentvm)
    kill(guests(home))
    status = agentvm.json("status", NAME)
    assert (status["state"], status["reason"]) == ("failed", "crash")
    ended(home)
    heals(agentvm, repository)


@harness.full_tier("one more boot")
def test_a_host_that_was_restarted_is_told_apart_from_a_crash(agentvm, home, box, repository):
    harness.end_manager(agentvm)
    kill(guests(home))
    kill(harness.processes(home, "virtiofsd"))
    boot = harness.record_of(home, NAME)["boot"]
    harness.rewrite_record(home, NAME, boot=boot | {"boot_id": "00000000-0000-4000-8000-000000000000"})
    status = agentvm.json("status", NAME)
    assert (status["state"], status["reason"]) == ("failed", "host-reboot")
    ended(home)
    heals(agentvm, repository)


HALF_FINISHED = [
    ("stopping", ["domain-stop", "virtiofsd-stop", "sockets-remove"], "stopped"),
    ("stopping", ["virtiofsd-stop", "sockets-remove"], "stopped"),
    ("stopping", ["sockets-remove"], "stopped"),
    ("stopping", [], "stopped"),
    ("starting", [], "failed"),
    ("failed", ["domain-stop", "virtiofsd-stop", "sockets-remove"], "failed"),
]


# Each boots a guest: one kind everywhere, all of them in the full tier.
@pytest.mark.parametrize("state,left,after", HALF_FINISHED if harness.FULL else HALF_FINISHED[1:2])
def test_a_half_finished_teardown_is_finished(agentvm, home, box, repository, state, left, after):
    harness.end_manager(agentvm)
    changes = {"state": state, "teardown": left}
    if "domain-stop" not in left and state == "stopping":
        kill(guests(home))
    if "virtiofsd-stop" not in left and state == "stopping":
        kill(harness.processes(home, "virtiofsd"))
        changes["virtiofsd"] = None
    harness.rewrite_record(home, NAME, **changes)
    assert agentvm.json("status", NAME)["state"] == after
    ended(home)
    assert harness.record_of(home, NAME)["teardown"] == []
    heals(agentvm, repository)


def test_a_destroy_that_was_cut_short_is_finished(agentvm, home, box, repository):
    harness.end_manager(agentvm)
    harness.rewrite_record(home, NAME, state="destroying", teardown=["domain-stop", "virtiofsd-stop", "sockets-remove"])
    assert agentvm.sandboxes() == []
    ended(home)
    assert not (home.state / "sandboxes" / NAME).exists()
    heals(agentvm, repository)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
@harness.full_tier("one more boot")
def test_a_manager_that_is_killed_during_a_stop(agentvm, home, box, repository, seconds):
    stopping = agentvm.popen("stop", NAME, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(agentvm.manager_pid(), signal.SIGKILL)
    stopping.wait(harness.START_SECONDS)
    status = harness.eventually(lambda: (lambda now: now if now["state"] in ("running", "stopped", "failed") else None)(agentvm.json("status", NAME)), 90,
                                "a settled state")
    if status["state"] != "running":
        ended(home)
    agentvm.run("start", repository, "--name", NAME, "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    assert len(guests(home)) == 1


def test_a_pid_that_is_another_process_by_now_is_left_alone(agentvm, home, box, repository, bystander):
    harness.end_manager(agentvm)
    record = harness.record_of(home, NAME)
    true_share = record["virtiofsd"]
    harness.rewrite_record(home, NAME, virtiofsd={"pid": bystander.pid, "start_ticks": true_share["start_ticks"]})
    # The share that the record names is gone, so the guest cannot go on; whoever has its pid now can.
    status = harness.eventually(lambda: (lambda now: now if now["state"] != "running" else None)(agentvm.json("status", NAME)), 60, "it is told")
    assert (status["state"], status["reason"]) == ("failed", "share-lost")
    harness.eventually(lambda: not guests(home), 60, "the machine is ended")
    kill([true_share["pid"]])
    heals(agentvm, repository)


def test_what_lies_where_sockets_belong_is_in_nobodys_way(agentvm, home, box, repository):
    agentvm.run("stop", NAME)
    stale = agentvm.json("manager", "status")["socket"]
    harness.end_manager(agentvm)
    assert os.path.exists(stale), "kill -9 leaves the manager's socket"
    place = home.state / "s" / hashlib.sha256(NAME.encode()).hexdigest()[:8]
    place.mkdir(mode=0o700)
    for name in ("serial.sock", "agent.sock", "fs.sock"):
        (place / name).write_text("not even a socket")
    heals(agentvm, repository)


@pytest.fixture
def other(home):
    """The same program as another build of it: from another place."""
    folder = home.folder / "other"
    for name in ("bin", "libexec"):
        shutil.copytree(harness.BUILD / name, folder / name, symlinks=True)
    yield harness.Agentvm(home, folder / "bin" / "agentvm")
    shutil.rmtree(folder)


def program_of(agentvm):
    return os.readlink(f"/proc/{agentvm.manager_pid()}/exe")


def test_another_build_takes_the_guests_over_and_waits_for_who_is_at_work(agentvm, home, box, repository, other):
    machines = guests(home)
    boot = agentvm.exec(NAME, "cat", "/proc/sys/kernel/random/boot_id")
    with subprocess.Popen(agentvm.argv("exec", NAME, "--", "sh", "-c", "read line; echo got $line"), env=home.environment(), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as working:
        harness.eventually(lambda: "read line" in agentvm.exec(NAME, "ps", "-ef"), 60, "the command runs")
        first = program_of(agentvm)
        assert other.exec(NAME, "cat", "/proc/sys/kernel/random/boot_id") == boot
        assert program_of(agentvm) == first, "the manager that serves somebody stays"
        said, _ = working.communicate(b"it\n", timeout=60)
        assert (said, working.returncode) == (b"got it\n", 0)
    assert other.exec(NAME, "cat", "/proc/sys/kernel/random/boot_id") == boot
    assert program_of(other).startswith(str(home.folder / "other")), "then the other build has taken over"
    assert guests(home) == machines
    # All that a manager does for a guest, this one does: what is committed comes home, and the guest has its way out.
    tip = harness.commit_inside(other, NAME, "theirs", "of the other build\n")
    assert other.json("sync", NAME)["new_tip"] == tip
    assert other.exec(NAME, "sh", "-c", "curl -sf -o /dev/null https://denied.invalid/ || echo refused") == "refused\n"
    assert any(row["host"] == "denied.invalid" for row in other.json("egress", "log", NAME)["rows"]), "its proxy answered"
    agentvm.run("stop", NAME)
    assert program_of(agentvm) == first and not guests(home)
    heals(agentvm, repository)
