"""Three sandboxes at once: started together, each its own machine, and ending one does not touch the others."""

import concurrent.futures

import pytest

import harness

NAMES = ["alpha", "beta", "gamma"]


@pytest.fixture(scope="module")
def boxes(agentvm, home):
    repositories = {name: harness.make_repository(home.folder / name, {"who": name + "\n"}) for name in NAMES}
    with concurrent.futures.ThreadPoolExecutor(len(NAMES)) as pool:
        list(pool.map(lambda name: agentvm.run("start", repositories[name], "--name", name, "--memory", "1G", "--no-attach",
                                               timeout=3 * harness.START_SECONDS), NAMES))
    return repositories


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


def test_ending_one_leaves_the_others(agentvm, boxes):
    agentvm.run("destroy", "beta", "--force")
    assert agentvm.sandboxes() == ["alpha", "gamma"]
    assert agentvm.exec("alpha", "cat", "/workspace/who") == "alpha\n"
    agentvm.run("stop", "--all", timeout=180)
    assert {row["state"] for row in agentvm.json("list")["sandboxes"]} == {"stopped"}
