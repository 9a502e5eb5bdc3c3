"""Three sandboxes at once: started together, each its own machine, and ending one does not touch the others."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess

import pytest

import harness

NAMES = ["alpha", "beta", "gamma"]
HUNG_SECONDS = 150


@pytest.fixture(scope="module")
def boxes(agentvm, home):
    repositories = {name: harness.make_repository(home.folder / name, {"who": name + "\n"}) for name in NAMES}
    with concurrent.futures.ThreadPoolExecutor(len(NAMES)) as pool:
        list(pool.map(lambda name: start(agentvm, repositories, name), NAMES))
    return repositories


def start(agentvm, repositories, name):
    agentvm.run("start", repositories[name], "--name", name, "--memory", "1G", "--no-attach", timeout=3 * harness.START_SECONDS)


def test_all_run_at_once_and_each_has_its_own_identity(agentvm, boxes):
    rows = {row["name"]: row["state"] for row in agentvm.json("list")["sandboxes"]}
    assert rows == {name: "running" for name in NAMES}
    script = "hostname; cat /etc/machine-id /etc/ssh/*.pub /proc/sys/kernel/random/boot_id | sha256sum; cat /workspace/who"
    with concurrent.futures.ThreadPoolExecutor(len(NAMES)) as pool:
        seen = list(pool.map(lambda name: agentvm.exec(name, "sh", "-c", script).split(), NAMES))
    assert [words[0] for words in seen] == NAMES and [words[-1] for words in seen] == NAMES
    assert len({words[1] for words in seen}) == len(NAMES)
    ports = {agentvm.json("status", name)["ssh"]["port"] for name in NAMES}
    assert len(ports) == len(NAMES)


def test_one_guest_does_not_reach_another(agentvm, boxes):
    port = agentvm.json("status", "beta")["ssh"]["port"]
    for address in ("10.0.2.2", "127.0.0.1"):
        script = f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null"
        assert agentvm.run("exec", "alpha", "--", "sh", "-c", script, code=None).returncode in (1, 124)


def test_commits_go_to_their_own_repository(agentvm, boxes):
    tips = {name: harness.commit_inside(agentvm, name, "x", name + "\n") for name in NAMES}
    with concurrent.futures.ThreadPoolExecutor(len(NAMES)) as pool:
        list(pool.map(lambda name: agentvm.run("sync", name), NAMES))
    for name in NAMES:
        assert harness.git(boxes[name], "rev-parse", "HEAD") == tips[name]
        assert (boxes[name] / "x").read_text() == name + "\n"


def test_ending_one_leaves_the_others(agentvm, home, boxes):
    agentvm.run("destroy", "beta", "--force")
    assert agentvm.sandboxes() == ["alpha", "gamma"]
    assert agentvm.exec("alpha", "cat", "/workspace/who") == "alpha\n"
    agentvm.run("stop", "--all", timeout=180)
    assert {row["state"] for row in agentvm.json("list")["sandboxes"]} == {"stopped"}


@pytest.fixture
def hung(agentvm, home, boxes):
    """Two of the three, their machines stopped as a whole: neither the guests nor QEMU answer anything any more."""
    for name in NAMES:
        start(agentvm, boxes, name)
    running = harness.processes(home, "qemu-system")
    domains = {name: harness.record_of(home, name)["domain"] for name in NAMES}
    machines = {name: next(pid for pid, line in running.items() if f"guest={domains[name]}," in line) for name in ("beta", "gamma")}
    for pid in machines.values():
        os.kill(pid, signal.SIGSTOP)
    yield machines
    for pid in machines.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@harness.full_tier("minutes of waiting")
def test_guests_that_hang_are_in_nobody_elses_way(agentvm, home, boxes, hung):
    asked = [words for name in hung for words in 4 * [("exec", name, "--", "true")] + 3 * [("sync", name)] + 3 * [("status", name)]]
    with contextlib.ExitStack() as all_of_them:
        clients = [all_of_them.enter_context(agentvm.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
                   for words in asked]
        # While all of these wait, who has nothing to do with them is served.
        rows = {row["name"]: row["state"] for row in agentvm.json("list", timeout=HUNG_SECONDS)["sandboxes"]}
        assert rows == {name: "running" for name in NAMES}
        assert agentvm.exec("alpha", "cat", "/workspace/who", timeout=HUNG_SECONDS) == "alpha\n"
        tip = harness.commit_inside(agentvm, "alpha", "y", "meanwhile\n")
        agentvm.run("sync", "alpha", timeout=HUNG_SECONDS)
        assert harness.git(boxes["alpha"], "rev-parse", "HEAD") == tip
        waiting = [words for words, client in zip(asked, clients) if client.poll() is None]
        assert any(words[0] == "exec" for words in waiting), "they were served beside those that wait, not after them"
        for words, client in zip(asked, clients):
            _, said = client.communicate(timeout=HUNG_SECONDS)
            assert client.returncode in {"exec": (125,), "sync": (3, 7), "status": (0,)}[words[0]], (words, client.returncode, said)
            assert words[0] == "status" or b"did not answer" in said or b"no answer in time" in said, (words, said)
    agentvm.run("stop", "--all", "--timeout", "5", timeout=HUNG_SECONDS)
    assert {row["state"] for row in agentvm.json("list")["sandboxes"]} == {"stopped"}
    assert not harness.processes(home, "qemu-system")
    start(agentvm, boxes, "gamma")
    assert agentvm.exec("gamma", "cat", "/workspace/who") == "gamma\n", "a start heals it"
