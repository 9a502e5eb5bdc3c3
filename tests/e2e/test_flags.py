"""Flags that change how a sandbox begins and ends, what commands print where, and what becomes of a guest's process whose client is gone.

The tests run in order on one sandbox without a network; what ends it comes last.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

import harness

NAME, WIDE = "flags", "wide"
SERVER_PORT = 8931
GONE_SECONDS = 60  # for a guest's process to hear that its client is gone
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# Keys at the root of what --json prints, beside "schema". More are welcome; one that goes or is renamed breaks those who read it.
STATUS = ("accelerator accelerator_reason agent autostart backend branch disk_bytes egress guest_agent memory_bytes message name nested nested_l2 nested_machines network ports project reason "
          "saved_bytes ssh state sync throw_away unsaved uptime_seconds vcpus warm warm_reason workspace_mode worktrees")
VERBOSE = STATUS + " agent_credentials agent_variables created domain folder id identity_file image known_hosts libvirt_uri warnings"
EXEC = "exit_code origin status stderr stdout truncated"
SYNC = ("branch bytes commands commits conflicts deletions dry_run files_changed gated gated_count gone insertions log moved new_tip objects old_tip pushed reason "
        "refs rejected rescued result sandbox switched_from")
WIP = "base branch commit files_changed kind name ref sandbox time worktree"
RULES = "allow changed deny in_force name network removed rule"
IMAGE = "built created damage digest folder kernel_version name request size_bytes suite"
ERROR = "code exit_code hint message"
SHAPES = [
    ("version", 0, "version", "version"),
    ("start PROJECT --name BOX --no-attach", 2, "status", VERBOSE + " already_running"),
    ("status BOX", 0, "status", STATUS),
    ("status BOX --verbose", 0, "status", VERBOSE),
    ("status --all", 0, "status", "broken sandboxes"),
    ("status nosuch", 1, "error", ERROR),
    ("list", 0, "list", "broken sandboxes"),
    ("exec BOX -- true", 0, "exec", EXEC),
    ("exec BOX -- no-such-program", 127, "exec", EXEC),
    ("exec BOX --detach -- true", 0, "exec", "detached exit_code"),
    ("exec nosuch -- true", 125, "error", ERROR + " origin"),
    ("run --name BOX -- true", 0, "run", EXEC + " clone kept name problem references rescued sync"),
    ("ssh-config BOX", 0, "ssh-config", "config_file host host_alias identity_file known_hosts_file name port stanza user"),
    ("sync BOX", 0, "sync", SYNC),
    ("sync BOX --dry-run", 0, "sync", SYNC),
    ("sync BOX --artifacts", 0, "artifacts", "bytes commands destination dry_run files gated gated_count left_out left_out_count links name reason result unchanged"),
    ("worktree add topic BOX --create", 0, "worktree-add", "branch name path pending_commits session tip"),
    ("worktree list BOX", 0, "worktree", "name worktrees"),
    ("worktree remove topic BOX", 0, "worktree-remove", "branch name path rescued"),
    ("suspend BOX", 0, "status", STATUS + " rescued"),
    ("resume BOX", 0, "status", STATUS),
    ("wip list BOX", 0, "wip", "name project wip"),
    ("wip show BOX", 0, "wip-show", WIP + " cut patch stat"),
    ("wip apply BOX", 0, "wip-apply", WIP + " commands conflicts files gated gated_count reason result"),
    ("wip drop BOX --all --force", 0, "wip-drop", "dropped name"),
    ("ports BOX", 0, "ports", "name ports problem url"),
    ("open BOX", 0, "open", "port url"),
    ("logs BOX", 0, "logs", "path text"),
    ("logs BOX --agent", 0, "logs", "live name session text"),
    ("logs BOX --agent --screen", 0, "logs", "live name session text"),
    ("replay BOX", 0, "replay", "begun columns duration_seconds events folder live name problem rows session"),
    ("logs --manager", 0, "logs", "path text"),
    ("egress log BOX", 0, "egress-log", "name network path rows waiting"),
    ("egress log BOX --each", 0, "egress-log", "entries name network path rows waiting"),
    ("egress check BOX a.example", 6, "egress-check", "addresses allowed cause grant host name network port reason rule"),
    ("egress allow BOX a.example", 0, "egress-allow", RULES),
    ("egress deny BOX b.example", 0, "egress-deny", RULES),
    ("egress suggest BOX", 0, "egress-suggest", "allow name"),
    ("image build", 0, "image", IMAGE),
    ("image list", 0, "image-list", "images"),
    ("image inspect default", 0, "image", IMAGE + " templates used_by"),
    ("image inspect default --verify", 0, "image", IMAGE + " templates used_by verified"),
    ("image remove default", 2, "error", ERROR),
    ("agents list", 0, "agents-list", "agents"),
    ("agents update --dry-run", (0, 3), "agents-update", "agents dry_run lock_file"),
    ("agents pin claude --remove", 0, "agents-update", "agents dry_run lock_file"),
    ("plan PROJECT", 0, "plan", "accelerator agent autostart branch decoys egress egress_allow egress_ask egress_deny egress_grants egress_presets egress_secrets image layers libvirt_uri limits_nested_memory limits_nested_vcpus memory name nested network "
                                "persist project run subfolder sync_mode values vcpus warm warnings workspace_mode"),
    ("config show", 0, "config", "egress keys warnings"),
    ("config validate", 0, "config-validate", "valid warnings"),
    ("trust PROJECT --dry-run", 0, "trust", "file keys project"),
    ("trust PROJECT --remove", 0, "trust-remove", "project removed running"),
    ("doctor", (0, 4), "doctor", "checks ok version"),
    ("manager status", 0, "manager-status", "connections log pid requests sandboxes socket uptime_seconds version"),
    ("manager logs", 0, "manager-logs", "path text"),
]
# Asserted by tests of their own below, `image remove` where it removes one in test_images.py, and `rescue` in test_disk_rescue.py; `config schema` is a JSON Schema.
ELSEWHERE = {"rescue", "image import", "stop", "destroy", "egress watch", "image prune", "manager stop", "config schema"}


@pytest.fixture(scope="module")
def project(home):
    return harness.make_repository(home.folder / "project")


@pytest.fixture(scope="module")
def first(agentvm, project):
    """The first start, as it ended."""
    return agentvm.run("start", project, "--name", NAME, "--memory", "1G", "--network", "none", "--timing", "--no-attach", timeout=harness.START_SECONDS)


@pytest.fixture(scope="module")
def box(first):
    return NAME


@pytest.fixture(scope="module")
def wide(agentvm, home, box):
    """A sandbox whose start failed before there was a machine: its project asks for more than it may have."""
    folder = harness.make_repository(home.folder / "wide", {"README": "one\n", "agentvm.yaml": "network: nat\n"})
    result = agentvm.run("start", folder, "--name", WIDE, "--image", "no-such-image", "--no-attach", code=1)
    return folder, result.stderr.decode()


@pytest.fixture(scope="module")
def heard(home):
    """A client that hears signals, also where those who run the tests ignore them (nohup, a shell's background)."""
    return harness.Agentvm(home, prefix=["env", "--default-signal=INT,HUP,TERM"])


def keys_of(answer, schema, keys):
    """Fails unless an answer is of that kind and has these keys."""
    assert answer["schema"] == f"agentvm.{schema}/1"
    assert not set(keys.split()) - set(answer), f"{schema} lost keys"


def screen(client, *words, code=0):
    """What a command shows on a terminal, with its escapes."""
    import pexpect  # pylint: disable=import-outside-toplevel

    terminal = client.spawn(*words, size=(60, 200))
    terminal.expect(pexpect.EOF, timeout=120)
    terminal.wait()
    assert terminal.exitstatus == code
    return terminal.before.decode()


def phases(text):
    """{phase: (seconds, median)} of the table that --timing prints."""
    lines = text[text.index("PHASE"):].splitlines()
    assert lines[0].split() == ["PHASE", "SECONDS", "MEDIAN", "HERE"]
    rows = [re.split(r" {2,}", line.rstrip()) for line in lines[1:]]
    return {row[0]: (row[1], row[2] if len(row) > 2 else "") for row in rows}


def curl(agentvm, url):
    """curl's own exit status in the guest, past every proxy: 7 is refused, 28 is silence."""
    return agentvm.run("exec", NAME, "--", "curl", "-sS", "-o", "/dev/null", "--noproxy", "*", "--max-time", "10", url, code=None).returncode


# --- a start, and what it may reach ---------------------------------------------------------------------------------------


def test_timing_prints_each_phase(first):
    table = phases(first.stdout.decode())
    assert {"image", "disk", "workspace", "accelerator", "share", "machine", "ssh lets us in", "total"} <= set(table)
    total = float(table.pop("total")[0])
    assert all(median == "-" for _, median in table.values()), "nothing was started here before"
    assert abs(sum(float(seconds) for seconds, _ in table.values()) - total) < 0.1
    assert float(table["machine"][0]) > 0 and 1 < total < harness.START_SECONDS


def test_network_none_has_no_way_out(agentvm, box):
    with socket.create_server(("127.0.0.1", 0)) as decoy:
        decoy.setblocking(False)
        for address in ("10.0.2.2", "10.0.2.3", "192.0.2.1"):
            assert curl(agentvm, f"http://{address}:{decoy.getsockname()[1]}/") in (7, 28), address
        with pytest.raises(BlockingIOError):
            decoy.accept()
        with socket.create_connection(decoy.getsockname()):
            decoy.accept()[0].close()  # the tries above would have been seen
    assert curl(agentvm, "http://127.0.0.1:3128/") == 7, "no proxy answers"
    assert agentvm.exec(NAME, "bash", "-lc", "env | grep -ci proxy", code=1) == "0\n"
    assert agentvm.exec(NAME, "getent", "hosts", "name.example", code=2) == ""
    query = r"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b'\0\1\1\0\0\1\0\0\0\0\0\0\4name\7example\0\0\1\0\1', ('10.0.2.3', 53)); s.recv(512)"
    assert b"Error" in agentvm.run("exec", NAME, "--", "python3", "-c", query, code=1).stderr, "nor does a resolver"


def test_network_none_still_works_and_syncs(agentvm, box, project):
    assert agentvm.run("exec", NAME, "--", "cat", stdin=b"in and out\n").stdout == b"in and out\n"
    tip = harness.commit_inside(agentvm, NAME, "inside", "made without a network\n")
    assert agentvm.json("sync", NAME)["result"] == "updated"
    assert harness.git(project, "rev-parse", "HEAD") == tip


def test_network_none_is_what_is_said(agentvm, home, box, project):
    status = agentvm.json("status", NAME)
    assert status["network"] == "none"
    assert (status["egress"]["mode"], status["egress"]["exposes"], status["egress"]["open"]) == ("none", "nothing", False)
    assert re.search(r"^Network: +none$", agentvm.text("status", NAME), re.MULTILINE)
    xml = (home.state / "sandboxes" / NAME / "domain.xml").read_text()
    assert "<interface" not in xml and xml.count("-netdev") == 1
    assert re.findall(r"value='user,id=net0,[^']*'", xml) == [f"value='user,id=net0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{status['ssh']['port']}-:22'"]
    denied = agentvm.json("egress", "check", NAME, "pypi.org", code=6)
    assert not denied["allowed"] and denied["reason"] == "the sandbox has no network (network: none)"
    assert agentvm.json("egress", "allow", NAME, "one.example")["in_force"] is False
    planned = agentvm.json("plan", project, "--network", "none")["network"]
    assert (planned["value"], planned["origin"]["layer"], planned["exposes"]) == ("none", "flag", "nothing")


def test_network_nat_needs_trust_or_the_user(agentvm, home, wide):
    folder, said = wide
    assert f"agentvm trust {folder}" in said and "'network'" in said
    status = agentvm.json("status", WIDE)
    assert (status["state"], status["network"], status["egress"]["mode"]) == ("failed", "filtered", "filtered")
    exposes = "the internet, the local network, and this host's loopback as 10.0.2.2"

    def planned(*options, **more):
        plan = agentvm.json("plan", folder, *options, **more)
        return plan["network"]["value"], plan["network"]["origin"]["layer"], plan["network"]["exposes"], [text for text in plan["warnings"] if exposes in text]

    filtered = "allowed names, through a proxy on this host, and nothing else"
    assert planned() == ("filtered", "default", filtered, [])
    for value, layer, exposed, warnings in (planned("--network", "nat"), planned(env={"AGENTVM_NETWORK": "nat"})):
        assert (value, exposed) == ("nat", exposes) and layer in ("flag", "environment")
        assert len(warnings) == 1 and "nothing is refused and nothing is logged" in warnings[0]
    assert planned("--network", "none", env={"AGENTVM_NETWORK": "nat"})[:3] == ("none", "flag", "nothing")


def test_a_run_is_planned_and_nothing_is_made(agentvm, home, project):
    def planned(*words, **more):
        plan = agentvm.json("plan", "run", *words, cwd=project, **more)
        return plan, plan["run"]

    assert agentvm.json("plan", project)["run"] is None
    plan, run = planned("--", "make", "test")
    assert re.fullmatch(r"project-run-[0-9a-f]{4}", plan["name"]["value"]) and run == {"argv": ["make", "test"], "kept": False, "repository": None}
    plan, run = planned("--name", "lab", "--memory", "512M", "fix", "the tests", "--agent", "claude")
    assert plan["name"]["value"] == "lab" and run["kept"] and run["argv"] == ["claude", "-p", "fix the tests"] and plan["memory"]["value"] == 512 << 20
    assert planned("--keep")[1] == {"argv": [], "kept": True, "repository": None}
    other = harness.make_repository(home.folder / "elsewhere" / "Other.git", {"agentvm.yaml": "memory: 3G\n"})
    harness.git(other, "switch", "-q", "-c", "trunk/x")
    plan, run = planned("--repo", other, "--", "true")
    assert run["repository"] == str(other) and re.fullmatch(r"other-run-[0-9a-f]{4}", plan["name"]["value"])
    assert plan["branch"]["value"] == "trunk/x" and "HEAD of" in plan["branch"]["origin"]["source"] and plan["memory"]["origin"]["layer"] == "default"
    assert any("agentvm.yaml" in text and "not known" in text for text in plan["warnings"])
    assert planned("--repo", other, "--branch", "main", "--", "true")[0]["branch"]["value"] == "main"
    text = agentvm.text("plan", "run", "--repo", other, "--", "make", "my test", cwd=project)
    assert text.startswith(f"make 'my test' in a sandbox of its own, which goes afterwards, with a copy of {other}\n")
    for words, code, expected in ((("--repo", home.folder / "nowhere"), 3, "git ls-remote"), (("--fresh",), 64, "for a start"),
                                  (("a", "--", "b"), 64, "either a command"), (("a task",), 64, "needs an agent")):
        assert expected in agentvm.run("plan", "run", *words, cwd=project, code=code).stderr.decode()
    for words in (("--keep",), (project, "--repo", other), ("start", project, "--", "true")):
        assert b"run" in agentvm.run("plan", *words, cwd=project, code=64).stderr
    # The folder of runs is shared with other tests.
    assert not (home.data / "agentvm/runs/next").exists() and not [name for name in agentvm.sandboxes() if "run" in name]


def test_network_nat_is_what_is_said(agentvm, home, wide):
    """Of a sandbox that has no machine: nothing here reaches out."""
    refused = agentvm.run("start", wide[0], "--name", WIDE, "--image", "no-such-image", "--network", "nat", "--no-attach", code=1)
    assert b"this host's loopback as 10.0.2.2; nothing is refused and nothing is logged" in refused.stderr
    status = agentvm.json("status", WIDE)
    assert (status["network"], status["egress"]["mode"], status["egress"]["open"]) == ("nat", "nat", False)
    assert status["egress"]["exposes"] == "the internet, the local network, and this host's loopback as 10.0.2.2"
    allowed = agentvm.json("egress", "check", WIDE, "denied.example")
    assert allowed["allowed"] and allowed["rule"] == "network: nat" and allowed["addresses"] == []
    assert not (home.state / "sandboxes" / WIDE / "domain.xml").exists() and len(harness.processes(home, "qemu-system")) == 1


def test_list_shows_one_state(agentvm, box, wide):
    assert sorted(agentvm.sandboxes()) == [NAME, WIDE]
    for state, name in (("running", NAME), ("failed", WIDE)):
        assert [(row["name"], row["state"]) for row in agentvm.json("list", "--state", state)["sandboxes"]] == [(name, state)]
        assert [line.split()[:2] for line in agentvm.text("list", "--state", state).splitlines()] == [["SANDBOX", "STATE"], [name, state]]
    assert agentvm.json("list", "--state", "stopped")["sandboxes"] == []
    nothing = agentvm.run("list", "--state", "stopped")
    assert nothing.stdout == b"" and b"no sandbox is stopped" in nothing.stderr
    assert b"--state: 'nosuch' is not one of" in agentvm.run("list", "--state", "nosuch", code=64).stderr


# --- who looks on -----------------------------------------------------------------------------------------------------------


def test_looking_on_at_nothing_is_no_success(agentvm, box):
    """Nobody has attached yet, so there is no session, and none is begun by looking."""
    terminal = agentvm.spawn("attach", NAME, "--read-only")
    assert harness.exit_status(terminal) in (1, 2, 3)
    assert b"it goes on" not in terminal.before


def test_who_looks_on_sees_and_types_nothing(agentvm, heard, box):
    owner = heard.spawn("attach", NAME)
    owner.sendline("clear; mark=$((40+2)); echo ready$mark")
    owner.expect_exact("ready42")
    guest = agentvm.spawn("attach", NAME, "--read-only")
    guest.expect_exact("ready42")
    guest.sendline("touch /tmp/typed; mark=lost; exit")
    guest.send("\x03\x04")
    owner.sendline("echo shown$mark")
    guest.expect_exact("shown42")
    guest.send("\x02d")
    assert harness.exit_status(guest) == 0 and b"it goes on" in guest.before
    agentvm.run("exec", NAME, "--", "test", "-e", "/tmp/typed", code=1)
    owner.close(force=False)  # the terminal goes away, and its session does not
    owner = agentvm.spawn("attach", NAME)
    owner.sendline("clear; echo still$mark")
    owner.expect_exact("still42")
    owner.send("\x02d")
    assert harness.exit_status(owner) == 0


# --- colour, and JSON ---------------------------------------------------------------------------------------------------------

LOOKS = [(["list"], 0), (["status", NAME], 0), (["status", "--all"], 0), (["plan"], 0), (["doctor"], (0, 4)), (["help"], 0), (["help", "start"], 0),
         (["config", "show"], 0), (["image", "list"], 0), (["manager", "status"], 0), (["status", "nosuch"], 1), (["list", "--nosuch"], 64)]


@pytest.mark.parametrize("words, code", LOOKS, ids=[" ".join(row[0]) for row in LOOKS])
def test_no_escape_comes_off_a_terminal(agentvm, box, project, words, code):
    result = agentvm.run(*words, cwd=project, code=code, env={"TERM": "xterm-256color", "CLICOLOR_FORCE": "1"})
    assert b"\x1b" not in result.stdout + result.stderr and result.stdout + result.stderr


def test_a_terminal_has_colour_unless_it_is_not_wanted(home, agentvm, box, project, first):
    assert b"\x1b" not in first.stdout + first.stderr
    plain, empty, dumb = (harness.Agentvm(home, prefix=["env", setting]) for setting in ("NO_COLOR=1", "NO_COLOR=", "TERM=dumb"))
    assert "\x1b[32mrunning\x1b[0m" in screen(agentvm, "list") and "\x1b[31merror:\x1b[0m" in screen(agentvm, "status", "nosuch", code=1)
    assert "\x1b[32mrunning\x1b[0m" in screen(empty, "list"), "an empty variable is none"
    for words in (["help"], ["help", "start"], ["plan", project], ["config", "show"]):
        coloured = screen(agentvm, *words)
        assert "\x1b[1m" in coloured
        assert screen(plain, *words) == screen(dumb, *words) == COLOUR.sub("", coloured), words
    for words, code in ((["list"], 0), (["status", NAME], 0), (["status", "nosuch"], 1)):
        assert "\x1b" not in screen(plain, *words, code=code) and "\x1b" not in screen(dumb, *words, code=code)
    assert not COLOUR.search(screen(plain, "doctor")), "it may move the cursor to show how far it is"
    assert "\x1b" not in screen(agentvm, "status", NAME, "--json")


@pytest.fixture(scope="module")
def furnished(agentvm, box, project):
    """Uncommitted work and a dev server are in the sandbox."""
    agentvm.exec(NAME, "sh", "-c", "echo new >/workspace/new")
    agentvm.run("exec", NAME, "--detach", "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", str(SERVER_PORT))
    harness.eventually(lambda: agentvm.json("ports", NAME)["ports"], 60, "the server is seen")


def test_every_command_with_json_is_in_the_table(agentvm):
    sections = re.split(r"^### agentvm ", agentvm.text("help", "--markdown"), flags=re.MULTILINE)[1:]
    documented = {section.splitlines()[0] for section in sections if "| `--json` |" in section}
    assert len(documented) > 30
    asserted = {name for name in documented for row in SHAPES if f"{row[0]} ".startswith(f"{name} ")} | ELSEWHERE
    assert documented == asserted


@pytest.mark.parametrize("words, code, schema, keys", SHAPES, ids=[row[0] for row in SHAPES])
def test_json_has_its_keys(agentvm, furnished, project, words, code, schema, keys):
    argv = [{"BOX": NAME, "PROJECT": project}.get(word, word) for word in words.split()]
    keys_of(agentvm.json(*argv, code=code, cwd=project), schema, keys)


def test_json_that_others_rely_on(agentvm, home, furnished, tmp_path):
    """What lies below the root, as the contract has it."""
    agentvm.run("worktree", "add", "side", NAME, "--create")
    status = agentvm.json("status", NAME)
    assert set(status["ssh"]) >= {"host", "port", "user"} and status["ssh"]["host"] == "127.0.0.1"
    assert set(status["sync"]) >= {"mode", "last_time", "last_result", "pending_commits"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["sync"]["last_time"]) and status["memory_bytes"] == 1 << 30
    (worktree,) = status["worktrees"]
    assert set(worktree) >= {"branch", "path", "session", "pending_commits"} and worktree["branch"] == "side"
    (port,) = agentvm.json("ports", NAME)["ports"]
    assert set(port) >= {"port", "process", "worktree", "url", "primary"} and (port["port"], port["primary"]) == (SERVER_PORT, True)
    for row in agentvm.json("list")["sandboxes"]:
        assert set(row) >= {"name", "state", "backend", "uptime_seconds", "project"}
    checks = agentvm.json("doctor", code=(0, 4))["checks"]
    assert len(checks) > 5 and all(set(check) >= {"id", "status", "finding", "remedy", "data"} and check["status"] in ("pass", "warn", "fail") for check in checks)
    error = agentvm.json("status", "nosuch", code=1)
    assert (error["code"], error["exit_code"], error["hint"]) == ("not-found", 1, "agentvm list")
    assert agentvm.json("config", "schema")["$schema"].startswith("https://json-schema.org/")
    agentvm.run("worktree", "remove", "side", NAME)
    other = harness.Home.make(data=tmp_path)  # for what would end or remove what others use
    try:
        client = harness.Agentvm(other)
        keys_of(client.json("image", "prune"), "image-prune", "freed_bytes images")
        keys_of(client.json("manager", "stop"), "manager-stop", "pid")
    finally:
        harness.remove(other)


# --- clients that are gone ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def client_of(agentvm, *words, **options):
    """A client beside the test, which does not outlive it."""
    client = agentvm.popen(*words, **({"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options))
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def runs(agentvm, line):
    return agentvm.run("exec", NAME, "--", "pgrep", "-fx", line, code=(0, 1)).returncode == 0


def begun(agentvm, line):
    harness.eventually(lambda: runs(agentvm, line), 60, f"'{line}' runs in the guest")


def ended(agentvm, line):
    harness.eventually(lambda: not runs(agentvm, line), GONE_SECONDS, f"'{line}' ended in the guest")


def test_a_killed_client_closes_the_streams(agentvm, box):
    """Who reads meets the end, who writes a closed pipe; who does neither is not ended (guest/streams.hpp)."""
    with contextlib.ExitStack() as clients:
        for line in ("cat -u", "vmstat 1", "sleep 7001"):
            clients.enter_context(client_of(agentvm, "exec", NAME, "--", *line.split()))
            begun(agentvm, line)
    ended(agentvm, "cat -u")
    ended(agentvm, "vmstat 1")
    assert runs(agentvm, "sleep 7001")
    harness.eventually(lambda: agentvm.json("status", NAME)["guest_agent"]["answers"] is True, 60, "its agent answers")
    agentvm.exec(NAME, "pkill", "-fx", "sleep 7001")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_without_a_terminal_is_passed_on(agentvm, heard, box, number):
    line = f"sleep {7100 + number}"
    with client_of(heard, "exec", NAME, "--", *line.split()) as client:
        begun(agentvm, line)
        client.send_signal(number)
        assert client.wait(GONE_SECONDS) == 128 + number, "the status is the guest's"
    assert not runs(agentvm, line)


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_terminal_that_is_gone_hangs_up(agentvm, heard, box, how):
    line = "sleep 7201" if how == "closed" else "sleep 7202"
    terminal = heard.spawn("exec", NAME, "--", *line.split())
    begun(agentvm, line)
    if how == "closed":
        terminal.close(force=False)
        assert terminal.exitstatus == 128 + signal.SIGHUP
    else:
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()
        assert terminal.signalstatus == signal.SIGKILL
    ended(agentvm, line)
    assert agentvm.json("status", NAME)["state"] == "running"


# --- the ends -------------------------------------------------------------------------------------------------------------------


def hold(agentvm, seconds):
    """A service that takes so long to stop."""
    agentvm.exec(NAME, "sudo", "systemd-run", "--unit=held", "--service-type=oneshot", "--remain-after-exit", "-p", "TimeoutStopSec=900", "-p",
                 f"ExecStop=sh -c 'echo the service ends >/dev/ttyS0; sleep {seconds}; echo the service has ended >/dev/ttyS0'", "true")


def test_a_session_that_has_ended_does_not_go_on(agentvm, box):
    terminal = agentvm.spawn("attach", NAME)
    terminal.sendline("clear; echo ready$((1+1))")
    terminal.expect_exact("ready2")
    terminal.sendline("exit")
    assert harness.exit_status(terminal) == 0 and b"[exited]" in terminal.before
    assert b"it goes on" not in terminal.before


def test_a_guest_that_does_not_power_off_in_time_is_ended(agentvm, home, box):
    hold(agentvm, 600)
    status = agentvm.json("stop", NAME, "--timeout", "5s", timeout=300)
    keys_of(status, "status", STATUS + " rescued")
    assert status["state"] == "stopped" and not harness.processes(home, "qemu-system")
    assert f"{NAME}: the guest did not power off within 5 s; ending it" in (home.state / "manager.log").read_text()
    console = agentvm.text("logs", NAME)
    assert "the service ends" in console and "the service has ended" not in console


def test_the_next_start_is_compared_with_the_first(agentvm, home, box, project, first):
    status = agentvm.json("start", project, "--name", NAME, "--memory", "1G", "--network", "filtered", "--timing", "--no-attach", timeout=harness.START_SECONDS)
    keys_of(status, "status", VERBOSE + " already_running timing")
    before = phases(first.stdout.decode())
    assert len(status["timing"]) >= 8
    for row in status["timing"]:
        assert row["milliseconds"] >= 0 and f"{row['median_milliseconds'] / 1000:.2f}" == before[row["phase"]][0], row
    assert status["network"] == "filtered" and curl(agentvm, "http://127.0.0.1:3128/") == 0, "with a network the proxy answers"


def test_each_connection_is_an_object_on_a_line(agentvm, heard, home, box):
    log, said = home.folder / "watched", home.folder / "said"
    with open(log, "wb") as out, open(said, "wb") as err, client_of(heard, "egress", "watch", NAME, "--json", stdout=out, stderr=err) as watching:
        harness.eventually(lambda: "watching" in said.read_text(), 30, "it watches")
        agentvm.run("exec", NAME, "--", "bash", "-lc", "curl -sS -o /dev/null --max-time 20 http://denied.example/", code=None)
        harness.eventually(lambda: "denied.example" in log.read_text(), 30, "the connection is told")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) in (-signal.SIGINT, 128 + signal.SIGINT), "what a shell calls 130"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(event["host"], event["verdict"]) for event in events if event["host"] == "denied.example"] == [("denied.example", "denied")]
    keys_of(events[0], "egress-event", "host port rule time verdict")


def test_a_guest_gets_the_time_that_it_is_given(agentvm, home, box):
    hold(agentvm, 40)
    agentvm.run("stop", NAME, "--timeout", "4m", timeout=400)
    assert "did not power off within 240 s" not in (home.state / "manager.log").read_text()
    assert "the service has ended" in agentvm.text("logs", NAME), "its services were cut off"


def test_a_guest_that_powers_itself_off_is_stopped(agentvm, box, project):
    agentvm.start(project, NAME, "--memory", "1G", "--network", "none")
    agentvm.exec(NAME, "sh", "-c", f"echo '{'kept on the disk, ' * 50}' >/var/tmp/kept")
    agentvm.run("exec", NAME, "--", "sudo", "systemctl", "poweroff", code=None)
    status = harness.eventually(lambda: next((s for s in [agentvm.json("status", NAME)] if s["state"] != "running"), None), 120, "its end is told")
    assert (status["state"], status["reason"]) == ("stopped", "guest-shutdown"), status["message"]


def test_destroy_keeps_the_disk_and_says_where(agentvm, home, box, wide):
    identifier, digest = (harness.record_of(home, NAME)[key] for key in ("id", "image_digest"))
    result = agentvm.run("destroy", NAME, "--force", "--keep-disk", "--json", timeout=300)
    keys_of(json.loads(result.stdout), "destroy", "kept_disk kept_wip name rescued")
    assert json.loads(result.stdout)["kept_disk"] in result.stderr.decode()
    disk = home.state / "kept-disks" / f"{NAME}-{identifier[:8]}.qcow2"
    assert f"the disk is kept as {disk}".encode() in result.stderr
    assert sorted(disk.parent.iterdir()) == [disk, pathlib.Path(f"{disk}.image")]
    assert pathlib.Path(f"{disk}.image").read_text() == digest + "\n" and disk.stat().st_mode & 0o777 == 0o600
    facts = json.loads(subprocess.run(["qemu-img", "info", "--output=json", str(disk)], capture_output=True, check=True, timeout=60).stdout)
    assert facts["format"] == "qcow2" and facts["backing-filename-format"] == "raw"
    assert facts["backing-filename"].endswith(f"/images/{digest}/root.raw") and os.path.exists(facts["backing-filename"])
    assert b"kept on the disk, kept on the disk, " in disk.read_bytes()
    assert f"kept disk {disk}" in agentvm.json("image", "inspect", digest)["used_by"]
    assert agentvm.sandboxes() == [WIDE] and not (home.state / "sandboxes" / NAME).exists()
    agentvm.run("destroy", WIDE, "--force")
    assert len(list(disk.parent.iterdir())) == 2, "without --keep-disk nothing is kept"


@pytest.fixture(scope="module")
def passing(home):
    """A project whose sandboxes end with their stop."""
    return harness.make_repository(home.folder / "passing", {"README": "one\n", "agentvm.yaml": "persist: false\nmemory: 1G\nnetwork: none\n"})


@pytest.mark.parametrize("options", [[]] + ([["--force"]] if harness.FULL else []), ids=lambda options: "by force" if options else "in order")
def test_what_does_not_persist_ends_with_its_stop_and_its_work_stays(agentvm, home, passing, options):
    planned = agentvm.json("plan", passing)["persist"]
    assert planned["value"] is False and planned["origin"]["layer"] == "project"
    name = "passing-forced" if options else "passing"
    agentvm.start(passing, name, "--network", "none")
    tip = harness.commit_inside(agentvm, name, "committed", "in a commit\n")
    agentvm.exec(name, "sh", "-c", "echo in none >/workspace/uncommitted")
    status = agentvm.json("stop", name, *options, timeout=300)
    assert status["state"] in (("destroyed", "stopped") if options else ("destroyed",))
    if status["state"] == "stopped":  # one that stays has it all still, and destroy brings it home
        agentvm.run("destroy", name, "--force", timeout=300)
    agentvm.run("status", name, code=1)
    assert name not in agentvm.sandboxes() and not (home.state / "sandboxes" / name).exists()
    references = harness.git(passing, "for-each-ref", "--format=%(refname)", f"refs/agentvm/{name}/").split()
    assert f"refs/agentvm/{name}/main" in references, "its commits are lost"
    assert harness.git(passing, "rev-parse", f"refs/agentvm/{name}/main") == tip
    (snapshot,) = [reference for reference in references if "/wip/" in reference]
    assert harness.git(passing, "show", f"{snapshot}:uncommitted") == "in none"


def test_what_does_not_persist_ends_with_its_guest_too(agentvm, home, passing):
    name = "passing-itself"
    agentvm.start(passing, name, "--network", "none")
    tip = harness.commit_inside(agentvm, name, "committed", "in a commit\n")
    agentvm.exec(name, "sh", "-c", "echo in none >/workspace/uncommitted")
    agentvm.run("exec", name, "--", "sudo", "systemctl", "poweroff", code=None)
    harness.eventually(lambda: name not in agentvm.sandboxes(), 240, "it goes with its guest")
    assert not (home.state / "sandboxes" / name).exists()
    assert harness.git(passing, "rev-parse", f"refs/agentvm/{name}/main") == tip
    (snapshot,) = harness.git(passing, "for-each-ref", "--format=%(refname)", f"refs/agentvm/{name}/wip/").split()
    assert harness.git(passing, "show", f"{snapshot}:uncommitted") == "in none"


def test_what_starts_by_itself_is_up_when_a_command_comes(agentvm, home):
    project = harness.make_repository(home.folder / "eager", {"README": "one\n", "agentvm.yaml": "autostart: true\nmemory: 1G\nnetwork: none\n"})
    assert agentvm.json("plan", project)["autostart"]["origin"]["layer"] == "project"
    agentvm.start(project, "eager", "--network", "none")
    assert agentvm.json("status", "eager")["autostart"] is True
    agentvm.exec("eager", "sh", "-c", "echo kept >/var/tmp/kept && sync")
    agentvm.run("stop", "eager")
    first = agentvm.run("exec", "eager", "--", "cat", "/var/tmp/kept", timeout=300)
    assert first.stdout == b"kept\n" and b"starting 'eager' (autostart)" in first.stderr
    agentvm.run("suspend", "eager")
    second = agentvm.run("ssh", "eager", "--", "cat", "/var/tmp/kept", timeout=300)
    assert second.stdout == b"kept\n" and b"resuming 'eager' (autostart)" in second.stderr
    agentvm.run("destroy", "eager", "--force")
    agentvm.run("exec", "eager", "--", "true", code=125)


@harness.full_tier("one more boot")
def test_what_does_not_start_by_itself_names_the_command(agentvm, passing):
    agentvm.start(passing, "waiting", "--network", "none")
    agentvm.run("suspend", "waiting")
    refused = agentvm.run("exec", "waiting", "--", "true", code=125)
    assert b"'waiting' is paused, not running" in refused.stderr and b"agentvm resume waiting" in refused.stderr
    agentvm.run("destroy", "waiting", "--force")
