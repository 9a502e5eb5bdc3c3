"""New sandboxes that go on from a template: row 15 of the threat model, and what becomes of a start when a template is no good."""

import hashlib
import json
import os
import shutil
import signal
import time

import pytest

import harness

pytestmark = pytest.mark.skipif(not harness.qemu_saves_machines(), reason="this host's QEMU (8.1 or 8.2) cannot save machines")
MEMORY = "768M"
MAKE_SECONDS = 600
OPTIONS = ("--memory", MEMORY, "--agent", "none")


@pytest.fixture(scope="module")
def home(image):  # pylint: disable=unused-argument
    """As for all files, but warm; what was made is not left to others."""
    made = harness.Home.make()
    configuration = made.folder / "config" / "agentvm" / "config.yaml"
    configuration.write_text(configuration.read_text() + "warm: true\n")
    client = harness.Agentvm(made)
    try:
        forget_templates(made)
        yield made
        for name in client.sandboxes():
            client.run("destroy", name, "--force")
        client.run("manager", "stop", code=(0, 2))
        left = harness.leaks(made)
        assert not left, "left behind:\n" + "\n".join(left)
        assert not unfinished(made)
    finally:
        harness.remove(made)
        forget_templates(made)


def folder_of_templates(home):
    return home.data / "agentvm" / "templates"


def forget_templates(home):
    shutil.rmtree(folder_of_templates(home), ignore_errors=True)


def template(home):
    """The description of the template, where there is one."""
    found = list(folder_of_templates(home).glob("*/template.json"))
    return found[0] if found else None


def unfinished(home):
    return list(folder_of_templates(home).glob(".making-*"))


def wait_for_template(home):
    return harness.eventually(lambda: template(home), MAKE_SECONDS, "a template")


@pytest.fixture(scope="module")
def made(agentvm, home):
    """A template that the first start of its shape has wished for; that start itself was a cold one."""
    start(agentvm, home, "first")
    status = agentvm.json("status", "first")
    assert status["warm"] is False
    assert "no template" in status["warm_reason"]
    wait_for_template(home)
    assert not harness.processes(home, "avm-t")


def start(agentvm, home, name, *options):
    """The status, with the phases."""
    repository = home.folder / f"project-{name}"
    if not repository.exists():
        harness.make_repository(repository)
    return agentvm.json("start", repository, "--name", name, "--no-attach", *OPTIONS, *options, timeout=harness.START_SECONDS)


def ends(agentvm, name):
    agentvm.run("destroy", name, "--force")


# What may not be the same in two sandboxes; and what shows that both went on from one machine.
SCRIPT = """
cat /etc/ssh/ssh_host_ed25519_key.pub; cat /etc/machine-id; cat /proc/sys/kernel/random/boot_id; hostname; cat /etc/hostname
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo; sudo sha256sum /var/lib/systemd/random-seed | cut -d' ' -f1
cat /run/agentvm/template 2>/dev/null || echo none; date +%s.%N
"""
WORDS = ("host_key", "machine_id", "boot_id", "hostname", "hostname_file", "random", "seed", "template", "time")


def look_inside(agentvm, name):
    before = time.time()
    lines = agentvm.exec(name, "sh", "-c", SCRIPT).splitlines()
    after = time.time()
    assert len(lines) == len(WORDS), lines
    found = dict(zip(WORDS, lines))
    assert before - 1 < float(found["time"]) < after + 1, "the clock is right"
    return found


def resident(home, name):
    domain = harness.record_of(home, name)["domain"]
    (pid,) = harness.processes(home, f"guest={domain}")
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith(("RssShmem", "RssAnon"))) * 1024


def test_clones_share_nothing_but_where_they_came_from(agentvm, home, made):
    nonce = json.loads(template(home).read_text())["nonce"]
    seen = []
    for name in ("one", "two"):
        status = start(agentvm, home, name)
        assert status["warm"] is True, status["warm_reason"]
        assert status["warm_reason"] == ""
        phases = [phase["phase"] for phase in status["timing"]]
        assert "template-state" in phases
        seen.append(look_inside(agentvm, name))
        assert seen[-1]["hostname"] == seen[-1]["hostname_file"] == name
        assert seen[-1]["template"] == nonce, "it went on from the template's memory"
        assert seen[-1]["machine_id"] == harness.record_of(home, name)["id"].replace("-", "")
        assert seen[-1]["host_key"].split()[1] in (home.state / "sandboxes" / name / "known_hosts").read_text()
    for word in WORDS:
        assert (seen[0][word] == seen[1][word]) == (word == "template"), word
    assert "warm, from a template" in agentvm.text("status", "one", "--verbose")


def test_a_clone_does_the_main_job(agentvm, home, made):
    assert agentvm.exec("one", "cat", "/workspace/README") == "one\n"
    assert agentvm.exec("one", "findmnt", "-no", "FSTYPE", "/workspace") == "virtiofs\n"
    tip = harness.commit_inside(agentvm, "one", "new", "content")
    agentvm.run("sync", "one")
    assert harness.git(home.folder / "project-one", "rev-parse", "HEAD") == tip
    # Only what it touched is in the host's memory.
    assert resident(home, "two") < resident(home, "first") * 0.9


def test_nobody_comes_in_as_the_template(agentvm, home, made):
    """Neither its key nor its name is anywhere in a clone, and its journal is the clone's own soon."""
    assert agentvm.exec("one", "sh", "-c", "ls /etc/ssh/ssh_host_* | wc -l").strip() == "2"
    assert agentvm.run("exec", "one", "--", "grep", "-rl", "agentvm-template", "/etc", code=(1, 2)).stdout == b""
    machine = look_inside(agentvm, "one")["machine_id"]
    harness.eventually(lambda: agentvm.run("exec", "one", "--", "test", "-d", f"/run/log/journal/{machine}", code=None).returncode == 0, 60,
                       "the journal has the new id")


def test_after_the_first_clone_is_gone(agentvm, home, made):
    ends(agentvm, "one")
    status = start(agentvm, home, "three", "--workspace", "disk")
    assert status["warm"] is True, status["warm_reason"]
    assert agentvm.exec("three", "cat", "/workspace/README") == "one\n"
    ends(agentvm, "three")


def test_a_disk_that_was_run_boots(agentvm, home, made):
    before = look_inside(agentvm, "two")
    agentvm.run("stop", "two", timeout=120)
    status = start(agentvm, home, "two")
    assert status["warm"] is False
    assert "run before" in status["warm_reason"]
    now = look_inside(agentvm, "two")
    assert before["template"] != now["template"] == "none"
    assert now["machine_id"] == before["machine_id"] and now["host_key"] == before["host_key"]
    ends(agentvm, "two")


@harness.full_tier("one more boot")
def test_cold_by_request(agentvm, home, made):
    status = start(agentvm, home, "four", "--cold")
    assert status["warm"] is False
    assert "off" in status["warm_reason"]
    ends(agentvm, "four")


def test_images_show_their_templates(agentvm, home, made):
    shown = [one for image in agentvm.json("image", "list")["images"] for one in image["templates"]]
    assert [one["key"] for one in shown] == [template(home).parent.name]
    assert 10 << 20 < shown[0]["size_bytes"] < 1 << 30


def cut_state(folder):
    path = folder / "device-state"
    os.truncate(path, path.stat().st_size // 2)


def another_emulator(folder):
    path = folder / "template.json"
    description = json.loads(path.read_text())
    description["shape"]["emulator"] = "/usr/bin/qemu-system-x86_64 of yesterday"
    path.write_text(json.dumps(description))


def state_that_does_not_load(folder):
    state, path = folder / "device-state", folder / "template.json"
    content = bytearray(state.read_bytes())
    content[len(content) // 2:] = b"\xff" * (len(content) - len(content) // 2)
    state.write_bytes(content)
    description = json.loads(path.read_text())
    description["files"]["devices_sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(description))


@pytest.mark.parametrize("damage,reason", [
    pytest.param(cut_state, "removed", marks=harness.full_tier("one more boot")),
    pytest.param(another_emulator, "another machine, emulator", marks=harness.full_tier("one more boot")),
    (state_that_does_not_load, "failed")])
def test_what_is_no_good_is_removed_and_the_start_boots(agentvm, home, made, damage, reason):
    wait_for_template(home)
    folder = template(home).parent
    nonce = json.loads(template(home).read_text())["nonce"]
    damage(folder)
    status = start(agentvm, home, "five")
    assert status["warm"] is False
    assert reason in status["warm_reason"]
    assert agentvm.exec("five", "cat", "/workspace/README") == "one\n"
    assert not template(home) or json.loads(template(home).read_text())["nonce"] != nonce
    ends(agentvm, "five")
    agentvm.run("image", "build", "--template", cwd=home.folder / "project-first", timeout=MAKE_SECONDS, env={"AGENTVM_MEMORY": MEMORY})
    assert json.loads(template(home).read_text())["nonce"] != nonce


def test_a_killed_manager_leaves_nothing_of_a_template(agentvm, home, made):
    forget_templates(home)
    making = agentvm.popen("image", "build", "--template", cwd=home.folder / "project-first", env=home.environment() | {"AGENTVM_MEMORY": MEMORY})
    harness.eventually(lambda: harness.processes(home, "guest=avm-t"), 60, "the template's machine")
    assert unfinished(home)
    making.send_signal(signal.SIGSTOP)  # it would ask the next manager for the same
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    making.kill()
    making.wait(60)
    assert agentvm.exec("first", "cat", "/workspace/README") == "one\n"  # the next manager
    harness.eventually(lambda: not harness.processes(home, "guest=avm-t"), 60, "the template's machine is gone")
    assert not template(home)
    harness.eventually(lambda: not unfinished(home), 30, "its folder is gone")
