"""Virtual machines in a sandbox: a hypervisor can be built and run there, or it is said why not."""

import pytest

import harness

NAME = "outer"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project")


def check(report):
    (found,) = [check for check in report["checks"] if check["id"] == "nested-l2"]
    return found


def test_doctor_runs_a_machine_in_a_guest_and_leaves_nothing(agentvm, home):
    report = agentvm.json("doctor", "--nested", code=(0, 4), timeout=300)
    found = check(report)
    assert found["status"] == "pass", found
    assert found["data"]["ran"] and 0 < found["data"]["ratio"] < 2 and found["data"]["exit_nanoseconds"] > 0
    assert agentvm.sandboxes() == [] and not harness.processes(home, "qemu-system")
    assert not list((home.data / "agentvm").glob(".doctor-*"))
    assert "nested-l2" not in [each["id"] for each in agentvm.json("doctor", code=(0, 4))["checks"]], "only when it is asked for"


def test_a_start_knows_it_and_the_guest_has_it(agentvm, home, repository):
    (home.state / "host" / "nested.json").unlink()
    agentvm.run("start", repository, "--name", NAME, "--memory", "1G", "--no-attach", timeout=harness.START_SECONDS)
    harness.eventually(lambda: agentvm.json("status", NAME)["nested_l2"], 60, "it is tried after the start")
    assert agentvm.json("status", NAME)["nested_l2"]["ran"]
    assert agentvm.exec(NAME, "sh", "-c", "test -r /dev/kvm && test -w /dev/kvm && id -un") == "agent\n"


HOG = """
import fcntl, os, time
kvm = os.open("/dev/kvm", os.O_RDWR)
machine = fcntl.ioctl(kvm, 0xAE01, 0)  # KVM_CREATE_VM
time.sleep(WAIT)
taken = []
while True:
    taken.append(bytearray(os.urandom(1 << 20)) * 8)
"""


def test_a_machine_that_takes_too_much_is_ended_and_told_of(agentvm, home, repository):
    (home.folder / "config/agentvm/config.yaml").write_text("proxy:\n  port: 0\nlimits:\n  nested_memory: 200M\n")
    agentvm.run("stop", NAME)
    agentvm.run("start", repository, "--no-attach", timeout=harness.START_SECONDS)
    found = harness.eventually(lambda: agentvm.json("status", NAME)["nested_machines"], 60, "the guest tells of its limits")
    cpus = max(1, agentvm.json("status", NAME)["vcpus"] // 2)
    assert found == {"memory_bytes": 200 << 20, "vcpus": cpus, "running": 0, "ended_for_memory": 0}
    # What opens no machine may take more than that.
    assert agentvm.exec(NAME, "python3", "-c", "print(len(bytearray(400 << 20)))", timeout=240) == f"{400 << 20}\n"
    running = agentvm.popen("exec", NAME, "--", "python3", "-c", HOG.replace("WAIT", "1000"))
    harness.eventually(lambda: agentvm.json("status", NAME)["nested_machines"]["running"] == 1, 60, "it is in the group")
    assert "1 running" in agentvm.text("status", NAME)
    running.kill()
    running.wait()
    hog = agentvm.run("exec", NAME, "--", "python3", "-c", HOG.replace("WAIT", "6"), code=137, timeout=240)
    assert hog.stdout == b""
    harness.eventually(lambda: agentvm.json("status", NAME)["nested_machines"]["ended_for_memory"] == 1, 60, "it is told of")
    assert "200M and " in agentvm.text("status", NAME) and "1 ended for memory" in agentvm.text("status", NAME)
    harness.eventually(lambda: "more memory than limits.nested_memory" in (home.state / "manager.log").read_text(), 30, "it is logged")
    assert agentvm.exec(NAME, "echo", "well") == "well\n"


def test_without_it_there_is_none(agentvm, repository):
    agentvm.run("stop", NAME)
    agentvm.run("start", repository, "--no-nested", "--no-attach", timeout=harness.START_SECONDS)
    assert agentvm.json("status", NAME)["nested_l2"] is None
    agentvm.run("exec", NAME, "--", "test", "-e", "/dev/kvm", code=1)
    assert "svm" not in agentvm.exec(NAME, "cat", "/proc/cpuinfo") and "vmx" not in agentvm.exec(NAME, "cat", "/proc/cpuinfo")
    agentvm.run("exec", NAME, "--", "sudo", "modprobe", "kvm_amd", code=1)
