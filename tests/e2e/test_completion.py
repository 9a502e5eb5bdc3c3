"""Completion in the shells themselves: what a person gets who presses Tab. A shell that is not installed is skipped by name."""

import shutil
import subprocess

import pytest

import harness


@pytest.fixture(scope="module")
def environment(home, agentvm):
    agentvm.run("list")  # makes the state folder, closed to others
    (home.state / "sandboxes").mkdir(mode=0o700, exist_ok=True)
    for name in ("web", "web-2"):
        (home.state / "sandboxes" / name).mkdir(mode=0o700)
    (home.folder / "some folder").mkdir()
    yield home.environment() | {"PATH": f"{harness.BUILD / 'bin'}:{home.environment()['PATH']}", "TERM": "dumb"}
    shutil.rmtree(home.state / "sandboxes")


def shell(name):
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed (package {name})")
    return path


class Terminal:
    """A shell in which one can press Tab; `typed` is the line it then shows."""

    def __init__(self, program, options, environment, folder, setup):
        import pexpect  # pylint: disable=import-outside-toplevel

        self.child = pexpect.spawn(program, options, env=environment, cwd=str(folder), dimensions=(24, 200), timeout=30, encoding="utf-8")
        for line in setup:
            self.child.sendline(line)
        self.child.sendline("echo rea''dy")
        self.child.expect("ready\r\n")

    def press(self, text, expected):
        self.child.send(text)
        self.child.expect_exact(expected)
        self.child.send("\x15")  # drops the line

    def end(self):
        self.child.sendline("exit")
        self.child.close(force=True)


def walk(terminal):
    terminal.press("agentvm trus\t", "agentvm trust ")
    terminal.press("agentvm image pru\t", "agentvm image prune ")
    terminal.press("agentvm start --netw\t", "agentvm start --network ")
    terminal.press("agentvm start --network fil\t", "agentvm start --network filtered ")
    terminal.press("agentvm exec web-\t", "agentvm exec web-2 ")
    terminal.press("agentvm start so\t", "agentvm start some\\ folder/")
    terminal.end()


def test_bash(home, environment):
    walk(Terminal(shell("bash"), ["--norc", "--noprofile", "-i"], environment, home.folder, ["bind 'set enable-bracketed-paste off'",
                                                                                          "source <(agentvm completion bash)"]))


def test_zsh(home, environment):
    walk(Terminal(shell("zsh"), ["-f", "-i"], environment, home.folder,
                  ["unset zle_bracketed_paste; unsetopt beep; autoload -Uz compinit && compinit -u -D && source <(agentvm completion zsh)"]))


def test_fish(home, environment):
    program = shell("fish")

    def offered(line):
        script = "agentvm completion fish | source; complete -C $argv[1]"
        result = subprocess.run([program, "--no-config", "-c", script, line], env=environment, cwd=home.folder, capture_output=True, text=True, check=True,
                                timeout=60)
        assert result.stderr == ""
        return [entry.split("\t")[0] for entry in result.stdout.splitlines()]

    assert offered("agentvm sta") == ["start", "status"]
    assert offered("agentvm image pru") == ["prune"]
    assert offered("agentvm start --network n") == ["nat", "none"]
    assert offered("agentvm exec we") == ["web", "web-2"]
    assert offered("agentvm start so") == ["some folder/"]
