"""The agent programs of the catalogue themselves, fetched from the registry: each answers, and stands at its prompt or login without asking whether it may.

They are some 100 MB each and boot slowly without KVM: part of the full tier.
"""

import re

import pytest

import harness

NAME = "real"
# What its first screen says when it waits for somebody, without a way to its model.
SCREENS = {
    "claude": r"bypass permissions on",
    "codex": r"OpenAI Codex|Sign in with ChatGPT",
    "gemini": r"How would you like to authenticate|Login with Google|Type your message",
}
QUESTIONS = r"(?i)do you trust|trust this folder|allow this|may i|grant"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"README": "one\n"})


def test_the_catalogue_names_versions(agentvm):
    agents = {agent["name"]: agent for agent in agentvm.json("agents", "list")["agents"]}
    assert {"claude", "codex", "gemini", "opencode"} <= set(agents)
    for agent in agents.values():
        assert re.match(r"\d+\.\d+\.\d+", agent["version"]), agent


@pytest.mark.parametrize("agent", ["claude", "codex", "gemini", "opencode"])
def test_it_answers_and_asks_nothing(agentvm, repository, agent):
    version = next(each["version"] for each in agentvm.json("agents", "list")["agents"] if each["name"] == agent)
    agentvm.run("start", repository, "--name", NAME, "--memory", "3G", "--network", "none", "--agent", agent, "--no-attach", timeout=1500, code=0)
    try:
        told = agentvm.exec(NAME, agent, "--version", timeout=300)
        assert version.split("-")[0] in told
        if agent in SCREENS:
            def screen():
                return agentvm.exec(NAME, "tmux", "capture-pane", "-p")

            harness.eventually(lambda: re.search(SCREENS[agent], screen()), 300, f"{agent} stands at its first screen")
            assert not re.search(QUESTIONS, screen())
            harness.eventually(lambda: agentvm.json("status", NAME)["agent"]["state"] == "waiting", 120, "it waits for somebody")
    finally:
        agentvm.run("stop", NAME, code=None)
