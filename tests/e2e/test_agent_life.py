"""An agent's life: it edits, commits, asks, draws while it waits, serves, has children, crashes; its guest is suspended, killed and started again. In order, on one guest."""

import os
import re
import shutil
import signal
import urllib.request

import pytest

import harness

NAME = "life"
SESSION = f"{NAME}-main"
# Stands for an agent program; what is answered to its question is what it does next.
PROGRAM = r'''#!/usr/bin/env python3
import os, pathlib, signal, subprocess, sys, time

def git(*words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.invalid", *words], check=True, stdout=subprocess.DEVNULL)

def commit(name, text):
    pathlib.Path(name).write_text(text + "\n")
    git("add", "--", name)
    git("commit", "-q", "-m", text)

def says(word):
    subprocess.run(["/usr/local/lib/agentvm/agent-says", word], check=True)

if sys.argv[1:]:
    commit("task", " ".join(sys.argv[1:]))
while True:
    print("\ayour answer: ", end="", flush=True)
    word, _, rest = sys.stdin.readline().strip().partition(" ")
    says("working")
    if word == "commit":
        commit(*rest.split(" ", 1))
    elif word == "edit":
        pathlib.Path(rest).write_text("not committed\n")
    elif word == "serve":
        subprocess.Popen([sys.executable, "-m", "http.server", rest], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.Popen(["sleep", "86411"])
    elif word == "draw":
        says("waiting")
        while True:
            print(".", end="", flush=True)
            time.sleep(0.5)
    elif word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "finish":
        sys.exit(0)
'''
DEFINITION = f"""name: lively
title: Lively Agent
install: |
  mkdir bin
  cat >bin/lively <<'END'
{chr(10).join('  ' + line for line in PROGRAM.splitlines())}
  END
  chmod 755 bin/lively
command: [./bin/lively]
"""


@pytest.fixture(scope="module")
def repository(home):
    folder = home.folder / "config" / "agentvm" / "agents"
    folder.mkdir()
    # A key of its own, so that the layer is built here and not found.
    (folder / "lively.yaml").write_text(DEFINITION.replace("mkdir bin", f"mkdir bin  # {home.folder.name}"))
    before = set((home.data / "agentvm" / "layers").glob("*"))
    yield harness.make_repository(home.folder / "project", {"README": "one\n"})
    for layer in set((home.data / "agentvm" / "layers").glob("*")) - before:
        if (layer / "layer.ext4").exists() and not layer.name.startswith("."):
            shutil.rmtree(layer)


def answer(agentvm, words, session=SESSION):
    agentvm.exec(NAME, "tmux", "send-keys", "-t", f"={session}:", words, "Enter")


def screen(agentvm, session=SESSION):
    return agentvm.exec(NAME, "tmux", "capture-pane", "-p", "-t", f"={session}:")


def agent_state(agentvm):
    return agentvm.json("status", NAME)["agent"]["state"]


def becomes(agentvm, state, what):
    harness.eventually(lambda: agent_state(agentvm) == state, 60, what)


def test_it_commits_and_asks_with_a_bell(agentvm, home, repository):
    agentvm.run("start", repository, "--name", NAME, "--memory", "1G", "--vcpus", "1", "--agent", "lively", "--no-attach", "--", "build", "the page",
                timeout=600)
    becomes(agentvm, "waiting", "its question is heard")
    note = f"/run/agentvm/sessions/{SESSION}"
    # It may have been silent for long before, while it was loaded.
    harness.eventually(lambda: agentvm.run("exec", NAME, "--", "cat", f"{note}.said", code=None).stdout == b"bell\n", 60, "tmux told of its bell")
    assert re.fullmatch(r"running \d+\n", agentvm.exec(NAME, "cat", note))
    assert agentvm.exec(NAME, "git", "log", "-1", "--format=%s") == "build the page\n"


def test_the_status_line_names_sandbox_branch_and_what_the_host_has_not(agentvm, repository):
    harness.eventually(lambda: agentvm.json("status", NAME)["sync"]["pending_commits"] == 1, 60, "it is counted")
    terminal = agentvm.spawn("attach", NAME, size=(40, 120))
    terminal.expect_exact("main, 1 commit to pull")
    terminal.expect_exact(NAME)
    agentvm.run("sync", NAME)
    assert harness.git(repository, "show", "HEAD:task") == "build the page"
    harness.eventually(lambda: agentvm.exec(NAME, "cat", "/run/agentvm/pending") == "0\n", 60, "the guest is told")
    terminal.expect(" main +life")
    terminal.send("commit page.html <p>hello</p>\r")
    terminal.expect_exact("main, 1 commit to pull")
    terminal.send("commit other.html <p>more</p>\r")
    terminal.expect_exact("main, 2 commits to pull")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0
    # A branch may be named like a format of tmux's.
    agentvm.exec(NAME, "git", "switch", "-q", "-c", "#{pid}#(id)")
    line = agentvm.exec(NAME, "/usr/local/lib/agentvm/status-line", "/workspace")
    assert line == "##{pid}##(id), 2 commits to pull\n"
    agentvm.exec(NAME, "git", "switch", "-q", "main")
    assert agentvm.exec(NAME, "/usr/local/lib/agentvm/status-line", "/") == ", 2 commits to pull\n", "a folder of no repository"


def test_what_it_serves_is_reached_by_name(agentvm):
    answer(agentvm, "serve 3000")
    harness.eventually(lambda: [row["port"] for row in agentvm.json("ports", NAME)["ports"]] == [3000], 60, "its server is found")
    url = agentvm.json("ports", NAME)["ports"][0]["url"]
    harness.eventually(lambda: agent_state(agentvm) == "waiting", 60, "it asks again, with children at work")
    place = re.fullmatch(r"http://(3000\.life\.localhost:(\d+))/", url)
    request = urllib.request.Request(f"http://127.0.0.1:{place[2]}/page.html", headers={"Host": place[1]})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert opener.open(request, timeout=60).read() == b"<p>hello</p>\n"
    assert "sleep 86411" in agentvm.exec(NAME, "ps", "-ef")


def test_each_work_tree_has_an_agent_whose_work_comes_home(agentvm, repository):
    agentvm.run("worktree", "add", "fix/two", NAME, "--create", "--", "mend it")
    session = next(each["session"] for each in agentvm.json("status", NAME)["worktrees"] if each["branch"] == "fix/two")

    def waits():
        trees = {each["branch"]: each["state"] for each in agentvm.json("status", NAME)["agent"]["worktrees"]}
        return trees.get("fix/two") == "waiting"

    harness.eventually(waits, 60, "the second one asks, too")
    answer(agentvm, "commit two made by the second", session)
    harness.eventually(lambda: agentvm.exec(NAME, "git", "log", "-1", "--format=%s", "fix/two") == "made by the second\n", 60, "it works")
    agentvm.run("sync", NAME)
    assert harness.git(repository, "log", "-1", "--format=%s", f"refs/agentvm/{NAME}/fix/two") == "made by the second"
    assert harness.git(repository, "log", "-1", "--format=%s") == "<p>more</p>"
    agentvm.run("worktree", "remove", "fix/two", NAME)


def test_one_that_draws_while_it_waits_is_believed(agentvm):
    answer(agentvm, "draw")
    harness.eventually(lambda: agentvm.exec(NAME, "cat", f"/run/agentvm/sessions/{SESSION}.said") == "waiting\n", 60, "its hook told")
    becomes(agentvm, "waiting", "it is believed")
    before = screen(agentvm)
    harness.eventually(lambda: screen(agentvm) != before, 60, "it draws meanwhile")
    assert agent_state(agentvm) == "waiting"


@harness.full_tier("one more boot")
def test_it_goes_on_after_a_suspension(agentvm):
    process = agentvm.exec(NAME, "pgrep", "-f", "bin/lively")
    agentvm.run("suspend", NAME)
    agentvm.run("resume", NAME)
    assert agentvm.exec(NAME, "pgrep", "-f", "bin/lively") == process
    before = screen(agentvm)
    harness.eventually(lambda: screen(agentvm) != before, 60, "it draws on")


def test_a_crash_is_told_and_another_one_can_be_started(agentvm):
    agentvm.exec(NAME, "pkill", "-SEGV", "-f", "bin/lively")
    becomes(agentvm, "ended", "its crash is told")
    status = agentvm.json("status", NAME)
    assert status["agent"]["exit_code"] == 128 + signal.SIGSEGV and status["state"] == "running"
    assert f"ended with status {128 + signal.SIGSEGV}" in screen(agentvm)
    # A shell took its place, and what the program had started goes on.
    assert [row["port"] for row in agentvm.json("ports", NAME)["ports"]] == [3000]
    answer(agentvm, "exit")
    # tmux ends with its last session; whoever comes while it does so is told "server exited unexpectedly".
    harness.eventually(lambda: b"no server running" in agentvm.run("exec", NAME, "--", "tmux", "ls", code=None).stderr, 60, "tmux has ended")
    terminal = agentvm.spawn("attach", NAME, size=(40, 120))
    terminal.expect_exact("your answer: ")
    terminal.send("edit draft\r")
    terminal.expect_exact("your answer: ")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0
    becomes(agentvm, "waiting", "the next one asks")


@harness.full_tier("one more boot")
def test_a_machine_that_dies_takes_no_work_with_it(agentvm, home, repository):
    for process in harness.processes(home, "qemu-system"):
        os.kill(process, signal.SIGKILL)
    harness.eventually(lambda: agentvm.json("status", NAME)["state"] in ("failed", "stopped"), 60, "it is noticed")
    agentvm.run("start", repository, "--name", NAME, "--agent", "lively", "--no-attach", timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/draft") == "not committed\n"
    becomes(agentvm, "waiting", "its agent was started with it")
    answer(agentvm, "commit draft now it is")
    harness.eventually(lambda: agentvm.json("status", NAME)["sync"]["pending_commits"] == 1, 60, "it works as before")
    agentvm.run("sync", NAME)
    assert harness.git(repository, "show", "HEAD:draft") == "now it is"
    answer(agentvm, "finish")  # "end" is a key to tmux
    becomes(agentvm, "ended", "it ends when it is told to")
    assert agentvm.json("status", NAME)["agent"]["exit_code"] == 0
