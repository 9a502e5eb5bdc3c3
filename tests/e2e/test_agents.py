"""An agent program in the terminal session: installed once, started without a question, told its task, and looked at. In order, on one guest."""

import json
import re
import shutil
import signal
import subprocess

import pytest

import harness

NAME = "studio"
SMALL = ("--memory", "1G", "--vcpus", "1")
# Stands for an agent program: it shows what it was given, works on the repository, waits for a line, and ends.
PROGRAM = r"""#!/bin/sh
echo "agent=$AGENT_SETTING arguments=$*"
cat "$HOME/.scripted/settings"
case "$1" in --yes) shift ;; *) exit 9 ;; esac
[ "$1" != -p ] || { shift; once=1; }
echo "$*" >task && git add task && git -c user.name=a -c user.email=a@example.invalid commit -q -m "$*"
[ -z "$once" ] || exit 0
printf 'your answer: '
read -r answer
echo "heard:$answer:"
exit 3
"""
DEFINITION = f"""name: scripted
title: Scripted Agent
install: |
  mkdir bin
  cat >bin/scripted <<'END'
{chr(10).join('  ' + line for line in PROGRAM.splitlines())}
  END
  chmod 755 bin/scripted
command: [./bin/scripted]
arguments: [--yes]
run: [-p]
credentials: [.scripted/login]
environment:
  AGENT_SETTING: "with a space"
files:
  - path: .scripted/settings
    content: |
      settings=of the catalogue
"""


@pytest.fixture(scope="module")
def repository(home):
    folder = home.folder / "config" / "agentvm" / "agents"
    folder.mkdir()
    # A key of its own, so that the layer is built here and not found.
    (folder / "scripted.yaml").write_text(DEFINITION.replace("mkdir bin", f"mkdir bin  # {home.folder.name}"))
    before = layers(home)
    yield harness.make_repository(home.folder / "project", {"README": "one\n"})
    for key in set(layers(home)) - set(before):
        shutil.rmtree(home.data / "agentvm" / "layers" / key)


def state(agentvm):
    return agentvm.json("status", NAME)["agent"]


def layers(home):
    return {path.parent.name: path.stat().st_ino for path in (home.data / "agentvm" / "layers").glob("*/layer.ext4")}


def test_what_is_no_agent_is_refused_before_anything_is_made(agentvm, repository):
    assert b"did you mean 'claude'" in agentvm.run("start", repository, "--agent", "claud", "--no-attach", code=1).stderr
    assert b"--agent" in agentvm.run("run", "do it", cwd=repository, code=64).stderr
    agentvm.run("run", "do it", "--", "true", cwd=repository, code=64)
    assert agentvm.sandboxes() == []
    names = [agent["name"] for agent in agentvm.json("agents", "list")["agents"]]
    assert names == ["claude", "codex", "gemini", "opencode", "scripted"]


def test_it_is_installed_and_at_work_in_the_session(agentvm, home, repository):
    agentvm.run("start", repository, "--name", NAME, *SMALL, "--agent", "scripted", "--no-attach", "--", "fix", "the 'tests'", timeout=400)
    assert agentvm.sandboxes() == [NAME], "the guest that built the layer is gone"
    harness.eventually(lambda: state(agentvm)["state"] == "waiting", 60, "it waits for an answer")
    assert state(agentvm)["title"] == "Scripted Agent"
    terminal = agentvm.spawn("attach", NAME, size=(40, 120))
    terminal.expect_exact("agent=with a space arguments=--yes fix the 'tests'")
    terminal.expect_exact("settings=of the catalogue")
    terminal.expect_exact("your answer: ")
    terminal.sendline("yes, go on")
    terminal.expect_exact("heard:yes, go on:")
    terminal.expect_exact("scripted ended with status 3")
    assert "heard:yes, go on:" in agentvm.text("logs", NAME, "--agent")
    # What a guest that made itself another tmux prints.
    forged = "printf '#!/bin/sh\\nprintf \"\\\\033]0;title\\\\007\\\\033[2Jforged\\\\n\"\\n' >/tmp/forged && chmod 755 /tmp/forged && "
    agentvm.exec(NAME, "sh", "-c", forged + "sudo mv /usr/bin/tmux /usr/bin/tmux.real && sudo cp /tmp/forged /usr/bin/tmux")
    shown = agentvm.json("logs", NAME, "--agent", "--screen")["text"] + agentvm.text("logs", NAME, "--agent", "--screen")
    assert "forged" in shown and "\x1b" not in shown and "\x07" not in shown
    agentvm.exec(NAME, "sudo", "mv", "/usr/bin/tmux.real", "/usr/bin/tmux")
    terminal.sendline("echo shell=$((6*7))")
    terminal.expect_exact("shell=42")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0
    harness.eventually(lambda: (state(agentvm)["state"], state(agentvm)["exit_code"]) == ("ended", 3), 60, "it is told how it ended")
    shown = r"Agent: +Scripted Agent.*ended with status 3"
    harness.eventually(lambda: re.search(shown, agentvm.text("status", NAME)), 60, "people are told, too")
    agentvm.run("sync", NAME)
    assert harness.git(repository, "show", "HEAD:task") == "fix the 'tests'"


def test_who_waits_is_listed_told_and_next(agentvm, home, repository):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    before = config.read_text()
    told, streamed = home.folder / "told", home.folder / "streamed"
    config.write_text(before + f"notify: 'echo \"$AGENTVM_EVENT $AGENTVM_SANDBOX $AGENTVM_PROJECT $AGENTVM_EXIT_CODE: $AGENTVM_MESSAGE\" >>{told}'\n")
    stream = None
    try:
        agentvm.run("stop", NAME)
        kept = agentvm.run("logs", NAME, "--agent", "--screen")
        assert b"shell=42" in kept.stdout and b"when it stopped" in kept.stderr
        agentvm.run("logs", NAME, "--agent", "--worktree", "none", code=1)
        agentvm.run("attach", "--next", code=64)  # no terminal
        assert b"no agent waits" in agentvm.spawn("attach", "--next").read()
        with streamed.open("w") as target:
            stream = agentvm.popen("list", "--watch", "--json", stdout=target)
        agentvm.run("start", repository, "--agent", "scripted", "--no-attach", timeout=300)
        harness.eventually(told.exists, 60, "the user's command was run")
        assert told.read_text() == f"waiting {NAME} {repository} : scripted waits for you in '{NAME}'\n"
        assert re.search(rf"{NAME} +running +scripted waiting \d+s ", agentvm.text("list"))
        terminal = agentvm.spawn("attach", "--next", size=(40, 120))
        terminal.expect_exact(f"attaching to {NAME}")
        terminal.expect_exact("your answer: ")
        screen = agentvm.spawn("list", "--watch", size=(10, 100))
        screen.expect_exact("scripted")
        terminal.send("\x02d")
        assert harness.exit_status(terminal) == 0
        agentvm.exec(NAME, "tmux", "send-keys", "an answer", "Enter")
        screen.expect_exact("ended (3)")
        harness.eventually(lambda: told.read_text().endswith(f"ended {NAME} {repository} 3: scripted ended with status 3 in '{NAME}'\n"), 60, "and told that it ended")
        agentvm.run("manager", "stop")
        screen.expect_exact("no manager runs")
        assert not harness.processes(home, "agentvm-manager"), "whoever looks on starts none"
        assert agentvm.json("list")["sandboxes"]
        screen.expect_exact("scripted")
        screen.send("\x03")
        assert harness.exit_status(screen) == 130
        harness.eventually(lambda: '"state":"ended"' in streamed.read_text(), 30, "a program that reads along hears of it")
        stream.send_signal(signal.SIGTERM)
        assert stream.wait(30) == 128 + signal.SIGTERM
        lines = [json.loads(line) for line in streamed.read_text().splitlines()]
        seen = [line["sandboxes"][0]["agent"]["state"] for line in lines if line["sandboxes"][0]["agent"]]
        assert "waiting" in seen and len(seen) < 20, "a line for a change, none for the time that passes"
    finally:
        config.write_text(before)
        if stream:
            stream.kill()


def test_the_layer_is_read_only_and_is_built_once(agentvm, home, repository):
    mount = agentvm.exec(NAME, "findmnt", "-no", "OPTIONS", "/opt/agentvm/scripted")
    assert {"ro", "nosuid", "nodev"} <= set(mount.strip().split(","))
    agentvm.run("exec", NAME, "--", "sudo", "touch", "/opt/agentvm/scripted/x", code=1)
    before = layers(home)
    agentvm.exec(NAME, "sh", "-c", "echo my own >~/.scripted/settings")
    agentvm.run("stop", NAME)
    agentvm.run("start", repository, "--no-attach", timeout=300)  # --agent was for that start
    assert state(agentvm) is None
    agentvm.run("stop", NAME)
    agentvm.run("start", repository, "--agent", "scripted", "--no-attach", timeout=300)
    assert layers(home) == before
    assert agentvm.exec(NAME, "cat", "/home/agent/.scripted/settings") == "my own\n", "what is there is not written over"
    harness.eventually(lambda: state(agentvm)["state"] == "waiting", 60, "it was started again, without a task")


def test_variables_reach_the_program_and_nothing_else(agentvm, home, repository):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    before = config.read_text()
    config.write_text(before + "env: {pass: [SCRIPTED_*, OTHER_KEY], deny: [SCRIPTED_DENIED], files: [.env]}\ncredentials: {copy: true}\n")
    canary = "canary-5f1c0b7e-and-more"
    (repository / ".git" / "info" / "exclude").write_text("/.env\n")
    (repository / ".env").write_text(f"# local\nexport FROM_FILE='{canary} of a file'\nSCRIPTED_DENIED={canary}-denied\nSCRIPTED_KEY=weaker\n")
    own = {"SCRIPTED_KEY": canary, "SCRIPTED_DENIED": canary + "-denied", "UNNAMED_KEY": canary + "-unnamed"}
    try:
        agentvm.run("stop", NAME)
        warned = agentvm.run("start", repository, "--agent", "scripted", "--no-attach", timeout=300, env=own)
        assert b"has no login in" in warned.stderr
        assert agentvm.json("status", NAME, "--verbose")["agent_variables"] == ["FROM_FILE", "SCRIPTED_KEY"]
        agentvm.exec(NAME, "sh", "-c", "printf '#!/bin/sh\\nenv\\n' >/tmp/show && chmod 755 /tmp/show && sudo umount -l /opt/agentvm/scripted && "
                     "sudo mkdir -p /opt/agentvm/scripted/bin && sudo cp /tmp/show /opt/agentvm/scripted/bin/scripted")
        seen = agentvm.exec(NAME, "scripted").splitlines()
        assert f"SCRIPTED_KEY={canary}" in seen and not [line for line in seen if "denied" in line or "unnamed" in line]
        assert f"FROM_FILE={canary} of a file" in seen
        assert canary not in agentvm.exec(NAME, "env")
        agentvm.run("exec", NAME, "--", "test", "-e", "/workspace/.env", code=1)
        assert agentvm.exec(NAME, "stat", "-c", "%U %a", "/run/agentvm/agent.env").split() == ["agent", "600"]
        assert agentvm.exec(NAME, "findmnt", "-no", "FSTYPE", "-T", "/run/agentvm/agent.env").strip() == "tmpfs"
        found = subprocess.run(["grep", "-rlaF", canary, str(home.state), str(home.folder / "run"), str(home.folder / "config")],
                               stdout=subprocess.PIPE, check=False, text=True).stdout.split()
        assert found == [], "records, logs, XML, keys, and the disk"
        (repository / ".env").unlink()
    finally:
        config.write_text(before)


def test_a_login_is_lent_in_memory(agentvm, home, repository):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    before = config.read_text()
    config.write_text(before + "env: {files: [.env]}\ncredentials: {copy: true}\n")
    canary = "canary-8c2d4e6f-login"
    login = home.folder / "home" / ".scripted" / "login"
    try:
        agentvm.run("stop", NAME)
        login.parent.mkdir()
        login.write_text(canary)
        assert str(login) in agentvm.json("plan", repository, "--agent", "scripted")["credentials"]
        assert b"env.files: .env: No such file" in agentvm.run("start", repository, "--agent", "scripted", "--no-attach", timeout=300).stderr
        assert agentvm.exec(NAME, "cat", "/run/agentvm/agent.env") == ""
        assert agentvm.json("status", NAME, "--verbose")["agent_credentials"] == [".scripted/login"]
        assert agentvm.exec(NAME, "cat", "/home/agent/.scripted/login") == canary
        assert agentvm.exec(NAME, "stat", "-Lc", "%U %a", "/home/agent/.scripted/login").split() == ["agent", "600"]
        assert agentvm.exec(NAME, "findmnt", "-no", "FSTYPE", "-T", "/run/agentvm/credentials/.scripted/login").strip() == "tmpfs"
        agentvm.exec(NAME, "sudo", "sync")
        found = subprocess.run(["grep", "-rlaF", canary, str(home.state), str(home.folder / "run"), str(home.folder / "config")],
                               stdout=subprocess.PIPE, check=False, text=True).stdout.split()
        assert found == [], "records, logs, XML, keys, and the disk"
        config.write_text(before)
        agentvm.run("stop", NAME)
        agentvm.run("start", repository, "--agent", "scripted", "--no-attach", timeout=300)
        agentvm.run("exec", NAME, "--", "ls", "/home/agent/.scripted/login", code=2)
        assert agentvm.json("status", NAME, "--verbose")["agent_credentials"] == []
    finally:
        config.write_text(before)


def test_each_work_tree_has_one(agentvm, home, repository):
    def there():
        return {each["branch"]: each for each in state(agentvm)["worktrees"]}

    assert state(agentvm)["worktrees"] == []
    config, told = home.folder / "config" / "agentvm" / "config.yaml", home.folder / "told-of-work-trees"
    before = config.read_text()
    config.write_text(before + f"notify: 'echo \"$AGENTVM_SESSION: $AGENTVM_MESSAGE\" >>{told}'\n")
    hostile = "x;$(id)"  # git takes it; a guest may name a branch so, and a note after its session
    agentvm.run("worktree", "add", hostile, NAME, "--create", "--", "mend", "the first")
    session = next(each["session"] for each in agentvm.json("status", NAME)["worktrees"] if each["branch"] == hostile)
    assert re.fullmatch(rf"{NAME}-[a-z0-9-]+", session)
    line = f"{session}: scripted waits for you in '{NAME}', session {session}\n"
    harness.eventually(lambda: told.exists() and line in told.read_text(), 60, "the user is told")
    assert told.read_text().replace(line, "", 1) in ("", f"{NAME}-main: scripted waits for you in '{NAME}'\n"), "nothing that a guest named"
    config.write_text(before)
    agentvm.run("worktree", "remove", hostile, NAME, "--force")
    agentvm.run("worktree", "add", "fix/two", NAME, "--create", "--", "mend", "the second")
    harness.eventually(lambda: there().get("fix/two", {}).get("state") == "waiting", 60, "its agent waits, too")
    assert agentvm.exec(NAME, "git", "log", "-1", "--format=%s", "fix/two") == "mend the second\n"
    assert re.search(r"Worktree: +fix/two at \S+.*, agent waiting \d+s", agentvm.text("status", NAME))
    assert re.search(r"scripted .*, fix/two waiting \d+s", agentvm.text("list"))
    main = agentvm.spawn("attach", NAME, size=(40, 120))
    main.expect_exact("your answer: ")  # an escape alone may be that of a line of progress: nobody looks yet
    terminal = agentvm.spawn("attach", "--next", size=(40, 120))
    terminal.expect_exact(f"attaching to {NAME} on fix/two")
    terminal.expect_exact("your answer: ")
    terminal.sendline("done")
    terminal.expect_exact("ended with status 3")
    terminal.sendline("exit")
    assert harness.exit_status(terminal) == 0
    harness.eventually(lambda: there()["fix/two"]["state"] in ("ended", "gone"), 30, "it is told that it ended")
    # Whoever attaches where no session is finds the agent at work in a new one.
    terminal = agentvm.spawn("attach", NAME, "--worktree", "fix/two", size=(40, 120))
    terminal.expect_exact("your answer: ")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0
    main.send("\x02d")
    assert harness.exit_status(main) == 0
    agentvm.run("worktree", "remove", "fix/two", NAME, "--force")
    assert state(agentvm)["worktrees"] == []


def test_run_gives_it_one_task(agentvm, repository):
    done = agentvm.run("run", "--agent", "scripted", *SMALL, "one", "task", cwd=repository, timeout=400)
    assert b"arguments=--yes -p one task" in done.stdout
    assert harness.git(repository, "show", "HEAD:task") == "one task"
    assert agentvm.sandboxes() == [NAME]


def test_an_installation_that_fails_says_why_and_leaves_nothing(agentvm, home, repository):
    folder = home.folder / "config" / "agentvm" / "agents"
    (folder / "broken.yaml").write_text("name: broken\ncommand: [./x]\ninstall: echo no such thing >&2; exit 4\n")
    before = layers(home)
    failed = agentvm.run("image", "build", "--agents", "broken", code=3, timeout=400)
    assert b"no such thing" in failed.stderr
    (folder / "broken.yaml").write_text("name: broken\ncommand: [./x]\ninstall: touch y\n")
    failed = agentvm.run("image", "build", "--agents", "broken", code=3, timeout=400)
    assert b"./x is not among what was installed" in failed.stderr
    assert layers(home) == before and agentvm.sandboxes() == [NAME]
    assert not list((home.data / "agentvm" / "layers").glob(".new-*"))
