"""kill -9 of each process ends in a clear state that says so, and a retry heals."""

import os
import re
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
    """The sandbox, running."""
    agentvm.run("start", repository, "--name", NAME, "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    return NAME


def kill(home, program):
    """kill -9 for every process of a program of this home; there must be one."""
    victims = harness.processes(home, program)
    assert victims, f"no {program} runs"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def settled(agentvm, *states):
    """The status, once it is in one of the states."""

    def probe():
        status = agentvm.json("status", NAME)
        return status if status["state"] in states else None

    return harness.eventually(probe, 60, f"state in {states}")


def heals(agentvm, repository):
    agentvm.start(repository, NAME)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"


def test_qemu_killed(agentvm, home, box, repository):
    agentvm.exec(NAME, "sh", "-c", "echo kept >/workspace/kept && sync")
    running = agentvm.popen("exec", NAME, "--", "sleep", "600", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    harness.eventually(lambda: "sleep 600" in agentvm.exec(NAME, "ps", "-ef"), 60, "the command runs")
    kill(home, "qemu-system")
    assert running.wait(60) == 125
    assert running.stderr.read()
    status = settled(agentvm, "failed", "stopped")
    assert status["reason"]
    assert harness.processes(home, "virtiofsd") == {} or harness.eventually(lambda: not harness.processes(home, "virtiofsd"), 30)
    agentvm.run("exec", NAME, "--", "true", code=125)
    heals(agentvm, repository)
    assert agentvm.exec(NAME, "cat", "/workspace/kept") == "kept\n"


def test_virtiofsd_killed(agentvm, home, box, repository):
    kill(home, "virtiofsd")
    status = settled(agentvm, "failed", "stopped")
    assert status["reason"]
    heals(agentvm, repository)


def test_manager_killed(agentvm, home, box):
    guests = set(harness.processes(home, "qemu-system"))
    first = agentvm.manager_pid()
    os.kill(first, signal.SIGKILL)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    assert agentvm.manager_pid() != first
    assert set(harness.processes(home, "qemu-system")) == guests
    assert agentvm.json("status", NAME)["state"] == "running"
    # What the manager did for the guest it does again: the way out, and syncing.
    tip = harness.commit_inside(agentvm, NAME, "x", "after\n")
    assert agentvm.json("sync", NAME)["new_tip"] == tip


def test_manager_killed_during_exec_says_that_the_state_is_unknown(agentvm, box):
    running = agentvm.popen("exec", NAME, "--", "sleep", "600", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    harness.eventually(lambda: "sleep 600" in agentvm.exec(NAME, "ps", "-ef"), 60, "the command runs")
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    assert running.wait(60) == 125
    assert b"unknown" in running.stderr.read()
    agentvm.exec(NAME, "true")


def test_manager_killed_during_start(agentvm, home, repository):
    agentvm.run("stop", NAME, code=(0, 2))
    starting = agentvm.popen("start", repository, "--name", NAME, "--no-attach", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness.eventually(lambda: harness.processes(home, "qemu-system"), 60, "QEMU runs")
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    # The client asks the next manager once by itself; what it says must be the truth either way.
    code = starting.wait(harness.START_SECONDS)
    assert (code == 0) == (agentvm.json("status", NAME)["state"] == "running")
    status = settled(agentvm, "running", "failed", "stopped")
    agentvm.run("start", repository, "--name", NAME, "--no-attach", code=2 if status["state"] == "running" else 0,
                timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    assert len(harness.processes(home, "qemu-system")) == 1


@harness.full_tier("a minute of waiting")
def test_a_guest_whose_sshd_hangs_does_not_hold_up_the_managers_end(agentvm, home, box):
    log = home.state / "manager.log"
    before = len(log.read_text())
    agentvm.exec(NAME, "sudo", "systemd-run", "--on-active=1", "pkill", "-STOP", "-x", "sshd")
    harness.eventually(lambda: "connection lost" in log.read_text()[before:], 90, "the silence is noticed")
    time.sleep(2)  # it is dialled again meanwhile
    began = time.monotonic()
    agentvm.run("manager", "stop")
    assert time.monotonic() - began < 20, "a dial lasts for a minute"
    stopped = agentvm.run("stop", NAME)
    assert b"could not be copied to the host" in stopped.stderr and b"it stays in the sandbox" in stopped.stderr


def once_before_sshd(agentvm, name, script):
    """Lets the guest's next boot, and that one alone, run a script before its sshd starts."""
    unit = ("[Unit]\nDefaultDependencies=no\nAfter=systemd-remount-fs.service\nBefore=ssh.service sysinit.target\n[Service]\nType=oneshot\n"
            f"ExecStart=/bin/sh -c '[ -e /{name} ] || {{ touch /{name}; sync; {script}; }}'\n[Install]\nWantedBy=sysinit.target\n")
    agentvm.exec(NAME, "sudo", "sh", "-c", f"cat >/etc/systemd/system/{name}.service && systemctl enable {name}.service && sync", stdin=unit)
    agentvm.run("stop", NAME)


def test_an_emulated_machine_that_hangs_while_it_boots_is_started_again(agentvm, home, box, repository):
    once_before_sshd(agentvm, "hung", 'for s in 26 52; do echo "BUG: soft lockup - CPU#0 stuck for $${s}s! [sh:1]" >/dev/ttyS0; done; sleep 600')
    started = agentvm.run("start", repository, "--name", NAME, "--accel", "tcg", "--no-attach", timeout=harness.START_SECONDS)
    assert started.stderr.count(b"CPUs hung while it booted") == 1, "of the first machine, not of what it left in the log"
    assert agentvm.exec(NAME, "cat", "/hung", "/workspace/README") == "one\n"
    agentvm.exec(NAME, "sudo", "systemctl", "disable", "hung.service")
    assert len(harness.processes(home, "qemu-system")) == 1


def test_a_start_that_fails_names_the_step_and_shows_the_console(agentvm, home, box, repository):
    once_before_sshd(agentvm, "ended", 'echo "no further: the disk is upside down" >/dev/ttyS0; sleep 1; poweroff -f')
    told = agentvm.run("start", repository, "--name", NAME, "--no-attach", code=3, timeout=harness.START_SECONDS).stderr.decode()
    assert "waiting until the guest's sshd listens" in told and "no further: the disk is upside down" in told, told
    assert "try: agentvm " in told
    status = agentvm.json("status", NAME)
    assert status["state"] == "failed" and status["reason"] == "start-failed" and "sshd listens" in status["message"]
    assert not harness.processes(home, "qemu-system") and not harness.processes(home, "virtiofsd")
    heals(agentvm, repository)
    time.sleep(5)  # what of the run before is still to be told is not taken for this one's end
    assert agentvm.json("status", NAME)["state"] == "running"


def test_a_guest_that_floods_its_ports_is_told_of_and_stopped_in_order(agentvm, home, box, repository):
    answers = {"answers": True, "reason": ""}
    harness.eventually(lambda: agentvm.json("status", NAME)["guest_agent"] == answers, 60, "it answers")
    flood = "pkill -KILL agentvm; setsid cat /dev/zero >$(echo /dev/vport*p1) 2>/dev/null & setsid timeout 8 cat /dev/zero >/dev/ttyS0 2>/dev/null &"
    agentvm.exec(NAME, "sudo", "sh", "-c", flood)
    harness.eventually(lambda: agentvm.json("status", NAME)["guest_agent"]["answers"] is False, 60, "it is noticed")
    assert re.search(r"Guest agent: +no answer", agentvm.text("status", NAME))
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n", "sshd is another way in"
    time.sleep(5)
    assert sum(path.stat().st_size for path in (home.state / "sandboxes" / NAME).glob("serial.log*")) < 20 << 20
    log = home.state / "manager.log"
    before = len(log.read_text())
    agentvm.run("stop", NAME)
    assert "did not power off" not in log.read_text()[before:]
    heals(agentvm, repository)
    harness.eventually(lambda: agentvm.json("status", NAME)["guest_agent"]["answers"] is True, 60, "it answers again")


def test_client_killed_during_exec(agentvm, box):
    running = agentvm.popen("exec", NAME, "--", "sleep", "601", stdout=subprocess.DEVNULL)
    harness.eventually(lambda: "sleep 601" in agentvm.exec(NAME, "ps", "-ef"), 60, "the command runs")
    running.kill()
    running.wait(10)
    assert agentvm.json("status", NAME)["state"] == "running"
    agentvm.exec(NAME, "true")


def test_client_killed_during_start(agentvm, home, repository):
    agentvm.run("stop", NAME, code=(0, 2))
    starting = agentvm.popen("start", repository, "--name", NAME, "--no-attach", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness.eventually(lambda: harness.processes(home, "qemu-system"), 60, "QEMU runs")
    starting.kill()
    starting.wait(10)
    harness.eventually(lambda: agentvm.json("status", NAME)["state"] in ("running", "failed", "stopped"), harness.START_SECONDS, "it settles")
    agentvm.run("start", repository, "--name", NAME, "--no-attach", code=(0, 2), timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/README") == "one\n"
    assert len(harness.processes(home, "qemu-system")) == 1
