"""What a terminal session printed is recorded: shown as text, followed, played and exported; it outlives whoever looks on, the manager and the sandbox's run,
and is bounded and harmless whatever the guest prints. In order, on one guest."""

import contextlib
import json
import re
import signal
import time

import pytest

import harness

NAME = "studio"
# Each line that it reads, it works on: that is an agent, as far as a terminal goes.
PROGRAM = r"""printf '\033[1;32mready\033[0m\r\n'; while read -r line; do eval "$line"; done"""
DEFINITION = f"""name: talker
command: [sh, -c, {json.dumps(PROGRAM)}]
"""
# Whoever lets one of these through has a terminal that answers, or one that is not the user's any more.
HOSTILE = [r"\033[6n", r"\033[c", r"\033]52;c;cm0gLXJm\007", r"\033]0;title\007", r"\033[?1000h", r"\033[?2004h", r"\033[>1u", r"\033P+q544e\033\\", r"\033[3J", r"\302\2336n"]
ALLOWED = re.compile(rb"\x1b(\[[0-9;:]*[ABCDEFGHIJKLMPSTXZ@`abdefrmsu]|\[\?(7|25)[hl]|\([0B]|[78DEM])")


@pytest.fixture(scope="module")
def repository(home):
    folder = home.folder / "config" / "agentvm" / "agents"
    folder.mkdir()
    (folder / "talker.yaml").write_text(DEFINITION)
    return harness.make_repository(home.folder / "project", {"README": "one\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME, "--memory", "1G", "--vcpus", "1", "--network", "none", "--agent", "talker")
    return NAME


def type_line(agentvm, line):
    agentvm.exec(NAME, "tmux", "send-keys", "-t", f"={NAME}-main:", "-l", line + "\n")


def log(agentvm):
    return agentvm.text("logs", NAME, "--agent")


def recorded(agentvm, words):
    harness.eventually(lambda: words in log(agentvm), 60, f"{words} is recorded")


def test_the_first_words_are_there_as_text(agentvm, box):
    recorded(agentvm, "ready\n")
    answer = agentvm.json("logs", NAME, "--agent")
    assert answer["schema"] == "agentvm.logs/1" and answer["live"] is True and answer["session"] == f"{NAME}-main"
    assert "\x1b" not in answer["text"] and "ready\n" in answer["text"]
    assert "ready" in agentvm.text("logs", NAME, "--agent", "--screen")
    agentvm.run("logs", NAME, "--screen", code=64)
    agentvm.run("logs", NAME, "--agent", "--follow", "--json", code=64)


def test_it_is_followed(agentvm, home, box):
    streamed = home.folder / "followed"
    with streamed.open("w") as target:
        client = agentvm.popen("logs", NAME, "--agent", "--follow", stdout=target)
    try:
        harness.eventually(lambda: "ready" in streamed.read_text(), 60, "what was there comes first")
        type_line(agentvm, "echo news=$((6*7))")
        harness.eventually(lambda: "news=42\n" in streamed.read_text(), 60, "then what is added")
        client.send_signal(signal.SIGTERM)
        assert client.wait(30) == -signal.SIGTERM
        assert streamed.read_text().count("ready") == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()


def test_it_outlives_a_terminal_and_a_manager(agentvm, box):
    terminal = agentvm.spawn("attach", NAME, size=(30, 100))
    terminal.sendline("echo attached=$((1+1))")
    terminal.expect_exact("attached=2")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0
    type_line(agentvm, "sleep 8; echo alone=$((3*3))")
    harness.end_manager(agentvm)
    time.sleep(10)  # nobody of the host is there when it is printed
    recorded(agentvm, "alone=9\n")
    assert log(agentvm).count("attached=2\n") == 1, "one recorder, and no gap or double after another manager"


def test_nothing_hostile_reaches_a_terminal_or_a_file(agentvm, home, box):
    for sequence in HOSTILE:
        type_line(agentvm, f"printf 'before {sequence}after\\n'")
    type_line(agentvm, "sleep 3; printf '\\033[31mred\\033[0m and done\\n'")
    recorded(agentvm, "red and done\n")
    raw = "".join(path.read_text() for path in sorted((home.state / "sandboxes" / NAME / "terminals" / f"{NAME}-main").glob("*.cast")))
    assert "\\u001b]52;c;cm0gLXJm" in raw and "\\u001b[6n" in raw, "it was printed, and recorded as it was"
    assert "\x1b" not in log(agentvm)
    cast = home.folder / "work.cast"
    agentvm.run("replay", NAME, "--cast", cast)
    assert cast.stat().st_mode & 0o777 == 0o600
    header, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    assert header["version"] == 2 and header["width"] > 0 and header["height"] > 0
    shown = "".join(text for _, kind, text in events if kind == "o")
    assert "\x1b[31mred" in shown and not re.search(r"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f-\x9f]", shown)
    assert ALLOWED.sub(b"", shown.encode()).count(b"\x1b") == 0
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert max(later - earlier for earlier, later in zip(times, times[1:])) > 2, "with its pauses"
    assert agentvm.run("replay", NAME, "--cast", "-").stdout.decode() == cast.read_text()
    answer = agentvm.json("replay", NAME)
    assert answer["schema"] == "agentvm.replay/1" and answer["events"] == events
    agentvm.run("replay", NAME, code=64)  # no terminal
    agentvm.run("replay", NAME, "--speed", "fast", "--json", code=64)


def test_it_is_played_and_the_terminal_put_back(agentvm, box):
    player = agentvm.spawn("replay", NAME, "--speed", "20", "--idle-limit", "0.5", size=(48, 160))
    player.expect_exact("\x1b[?1049h")
    player.expect_exact("\x1b[31mred\x1b[0m and done", timeout=120)
    played = player.before
    assert b"attached=2" in played
    assert ALLOWED.sub(b"", played).count(b"\x1b") == 0, "colours and the cursor, and nothing else"
    player.send("x")  # the last picture stays until a key comes
    assert harness.exit_status(player) == 0
    assert b"\x1b[0m" in player.before and player.before.rstrip().endswith(b"\x1b[?1049l")


def test_keys_hold_it_and_end_it(agentvm, box):
    player = agentvm.spawn("replay", NAME, "--speed", "0.01", "--idle-limit", "0", size=(48, 160))
    player.expect_exact("\x1b[?1049h")
    player.send("  q")
    assert harness.exit_status(player) == 0
    assert b"red" not in player.before
    player = agentvm.spawn("replay", NAME, "--speed", "0.01", "--idle-limit", "0")
    player.expect_exact("\x1b[?1049h")
    player.send("\x03")
    assert harness.exit_status(player) == 130
    assert b"\x1b[?1049l" in player.before


def test_a_flood_and_a_liar_are_bounded(agentvm, home, box):
    folder = home.state / "sandboxes" / NAME / "terminals"
    type_line(agentvm, "yes 'a line of a flood that nobody will read' | head -n 400000; echo flood=$((1+2))over")
    harness.eventually(lambda: "flood=3over" in agentvm.json("logs", NAME, "--agent")["text"], 300, "its end is there")
    inside = "/home/agent/.local/state/agentvm/terminals"
    sizes = [int(word) for word in agentvm.exec(NAME, "sh", "-c", f"stat -c %s {inside}/{NAME}-main/*.cast").split()]
    assert len(sizes) <= 8 and sum(sizes) <= 12 << 20, "the guest's own"
    # The guest's user writes what it likes where its recorder does.
    agentvm.exec(NAME, "sh", "-c", f"cd {inside}/{NAME}-main && yes '[0,\"o\",\"forged\"]' | head -c 5000000 >9999999999999999.cast; ln -s /etc/shadow 1000000000000000.cast; "
                 "for i in 1 2 3 4 5 6 7 8 9; do yes x | head -c 1000000 >200000000000000$i.cast; done")
    agentvm.run("logs", NAME, "--agent")
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) <= 13 << 20 and len(kept) <= 12, kept
    agentvm.exec(NAME, "sh", "-c", f"rm {inside}/{NAME}-main/9999999999999999.cast {inside}/{NAME}-main/[12]00000000000000*.cast")


def test_it_is_there_when_the_sandbox_is_not(agentvm, home, repository, box):
    agentvm.run("stop", NAME)
    stopped = agentvm.run("logs", NAME, "--agent")
    assert b"flood=3over\n" in stopped.stdout and b"does not run" in stopped.stderr
    answer = agentvm.json("logs", NAME, "--agent")
    assert answer["live"] is False and answer["problem"] is None
    agentvm.run("replay", NAME, "--cast", home.folder / "stopped.cast")
    agentvm.start(repository, NAME, "--agent", "talker")
    harness.eventually(lambda: log(agentvm).count("ready\n") >= 1 and "flood=3over\n" in log(agentvm), 60, "a later run goes on behind it")
