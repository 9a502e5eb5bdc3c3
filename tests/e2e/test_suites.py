"""A guest of the other Debian: the default recipe with another suite, from whichever host this is. The main job in it, and a start that is as orderly as that
of the default one."""

import re

import pytest

import harness

NAME = "newer"
SUITE = "trixie"
VERSION = "13"
IMAGE_SECONDS = 1500


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n"})


@pytest.fixture(scope="module")
def box(agentvm, home, repository):
    text = (harness.ROOT / "guest/image/recipes/default.yaml").read_text()
    for key, value in (("name", NAME), ("suite", SUITE)):  # a name of its own: other files ask for the image "default"
        text, count = re.subn(rf"(?m)^{key}: \w+$", f"{key}: {value}", text)
        assert count == 1
    recipe = home.folder / "recipe.yaml"
    recipe.write_text(text)
    started = agentvm.run("start", repository, "--name", NAME, "--image", recipe, "--memory", "1G", "--no-attach", timeout=IMAGE_SECONDS, code=None)
    said = started.stderr.decode()
    if started.returncode and ("does not have a Release file" in said or "cannot be reached" in said):
        pytest.skip(f"this host's package sources have no {SUITE}: {said[-300:]}")
    assert started.returncode == 0, said
    return NAME


def settled(agentvm):
    """What systemd has come to, once it is through."""
    state = agentvm.text("exec", NAME, "--", "sudo", "timeout", "100", "systemctl", "is-system-running", "--wait", code=(0, 1)).strip()
    failed = agentvm.text("exec", NAME, "--", "sudo", "systemctl", "--failed", "--plain", "--no-legend")
    return state, failed.split()


def test_the_main_job(agentvm, box, repository):
    assert agentvm.exec(box, "cat", "/etc/debian_version").startswith(VERSION)
    inside = f"cd /workspace && echo two >>a.txt && git {' '.join(harness.IDENTITY)} commit -qam Second && git rev-parse HEAD"
    tip = agentvm.exec(box, "sh", "-c", inside).strip()
    agentvm.run("sync", box)
    assert harness.git(repository, "rev-parse", "HEAD") == tip


def test_it_starts_in_order_each_time(agentvm, box, repository):
    """Units of ours have places in the order of the boot; a cycle makes systemd drop any of them, another one each time."""
    for again in (False, True):
        if again:
            agentvm.run("stop", box, timeout=300)
            agentvm.run("start", repository, "--name", box, "--no-attach", timeout=harness.START_SECONDS)
        assert settled(agentvm) == ("running", [])
        said = agentvm.exec(box, "sudo", "dmesg")
        assert "Linux version" in said and "ordering cycle" not in said and "generator failed" not in said
        assert agentvm.exec(box, "systemctl", "is-active", "ssh", "dbus", "systemd-journald").split() == ["active"] * 3


def test_what_the_system_listens_on_is_no_dev_server(agentvm, box):
    agentvm.exec(box, "sh", "-c", "setsid --fork python3 -m http.server 8000 </dev/null >/dev/null 2>&1")
    shown = harness.eventually(lambda: [port["port"] for port in agentvm.json("ports", box)["ports"]], 30, "the server is seen")
    assert shown == [8000]


def test_virtual_machines_run_in_it(agentvm, box):
    """Its kernel believes long mode only of a processor that was told what it can do: each kernel asks for a little more."""
    if agentvm.json("status", box)["accelerator"] == "kvm" and not harness.host_nests():
        pytest.skip("this host's KVM gives its guests no virtualization of their own (the module's parameter nested)")
    verdict = harness.eventually(lambda: agentvm.json("status", box)["nested_l2"], 60, "the trial in the guest")
    assert verdict["ran"] and verdict["reason"] == "", verdict
