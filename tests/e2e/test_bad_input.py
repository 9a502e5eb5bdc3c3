"""A table of wrong words, files and requests: each gets its documented status and a message that names the remedy. Nothing of it needs a guest."""

import contextlib
import json
import os
import re
import socket

import pytest

import harness

# Words, status, and what standard error must say. PROJECT, ELSEWHERE: a repository, a folder that is none.
WORDS = [
    ("strat", 64, "did you mean 'start'"),
    ("image bild", 64, "did you mean 'build'"),
    ("image", 64, "needs one of: build, import, list"),
    ("start --memroy 1G", 64, "did you mean '--memory'"),
    ("start --memory", 64, "--memory SIZE"),
    ("start PROJECT --memory lots", 64, "--memory: 'lots' is not a size between 256M and 16T, such as 8G"),
    ("start PROJECT --memory 1", 64, "is not a size between"),
    ("start PROJECT --memory 99999999999999999999G", 64, "is not a size between"),
    ("start PROJECT --vcpus 0", 64, "from 1 to 256"),
    ("start PROJECT --vcpus -1", 64, "--vcpus N"),
    ("start PROJECT --network wide", 64, "not one of filtered, nat, none"),
    ("start PROJECT --workspace nfs", 64, "not one of virtiofs, disk"),
    ("start PROJECT --name Not_A_Name", 64, "is not a sandbox name"),
    ("start PROJECT --branch a..b", 64, "is not a branch name"),
    ("start PROJECT --image ../../x --name a --name b", 64, "--name was given twice"),
    ("start PROJECT --image no,such", 64, "is not an image name"),
    ("start PROJECT --json=yes", 64, "--json takes no value"),
    ("start PROJECT more", 64, "'more' is too much"),
    ("start /nonexistent", 1, "try: ls -ld /nonexistent"),
    ("start ELSEWHERE", 1, "try: git -C .* init"),
    ("plan ELSEWHERE", 1, "not a git repository"),
    ("trust ELSEWHERE", 1, "not a git repository"),
    ("status nosuch", 1, "try: agentvm list"),
    ("status ../../etc", 64, "is not a sandbox name"),
    ("status", 1, "not a git repository"),
    ("stop nosuch", 1, "try: agentvm list"),
    ("stop nosuch --timeout soon", 64, "soon"),
    ("destroy", 64, "needs NAME"),
    ("destroy nosuch", 64, "try: agentvm destroy nosuch --force"),
    ("destroy nosuch --force", 1, "try: agentvm list"),
    ("sync nosuch", 1, "try: agentvm list"),
    ("attach nosuch", 64, "terminal"),
    ("logs nosuch", 1, "try: agentvm list"),
    ("ssh-config nosuch", 1, "try: agentvm list"),
    ("ports nosuch", 1, "try: agentvm list"),
    ("open nosuch", 1, "try: agentvm list"),
    ("forward nosuch 0:80", 1, "try: agentvm list"),
    ("forward nosuch x:y", 64, "HOSTPORT:GUESTPORT"),
    ("forward nosuch 1:65536", 64, "HOSTPORT:GUESTPORT"),
    ("exec nosuch -- true", 125, "try: agentvm list"),
    ("exec nosuch", 64, "needs a command after --"),
    ("exec nosuch true", 64, "after --"),
    ("image inspect nosuch", 1, "try: agentvm image list"),
    ("image inspect ../../../etc", 1, "try: agentvm image list"),
    ("image remove nosuch", 1, "try: agentvm image list"),
    ("image build --recipe /nonexistent.yaml", 1, "/nonexistent.yaml"),
    ("config validate /nonexistent.yaml", 1, "no such file"),
    ("completion tcsh", 64, "not one of bash, zsh, fish"),
    ("help strat", 64, "did you mean 'start'"),
]

VARIABLES = [
    ({"AGENTVM_MEMORY": "lots"}, 64, "AGENTVM_MEMORY: 'lots' is not a size.*\n.*try: unset AGENTVM_MEMORY"),
    ({"AGENTVM_NETWORK": "wide"}, 64, "AGENTVM_NETWORK: .*\n.*try: unset AGENTVM_NETWORK"),
    ({"AGENTVM_BACKEND": "docker"}, 64, "'docker' is not supported: only libvirt is"),
    ({"AGENTVM_ACCEL": "hvf"}, 64, "not one of auto, kvm, tcg"),
    ({"AGENTVM_LIBVIRT_URI": "qemu+ssh://x/system"}, 64, "not one of auto, qemu:///session, qemu:///system"),
    ({"AGENTVM_LOG": "sync:loud"}, 64, "AREA:LEVEL"),
    ({"AGENTVM_HOME": "relative"}, 64, "AGENTVM_HOME"),
    ({"HOME": "", "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "XDG_RUNTIME_DIR": ""}, 4, "HOME"),
]

FILES = [
    (b"memmory: 8G\n", 64, "bad.yaml:1:1: unknown key 'memmory'; did you mean 'memory'"),
    (b"workspace:\n  mod: disk\n", 64, "bad.yaml:2:3: unknown key 'workspace.mod'; did you mean 'workspace.mode'"),
    (b"memory: 8G\nmemory: 9G\n", 64, "bad.yaml:2:1: .*twice"),
    (b"memory: [8G]\n", 64, "bad.yaml:1:9: memory: expected size, found a list"),
    (b"a: {b: [\n", 64, "bad.yaml:2:1: "),
    (b"memory: &a 8G\nname: *a\n", 64, "bad.yaml:2:.*aliases are not supported"),
    (b"- memory\n", 64, "bad.yaml:1:1: expected 'key: value' lines"),
    (b"x: " + b"[" * 100 + b"]" * 100, 64, "bad.yaml:1:.*deep"),
    (b"\x00\x01\x02", 64, "bad.yaml:1:"),
    (b"memory: \xff\xfe\n", 64, "bad.yaml:"),
    (b"memory: \"\\e]52;c;eA==\\a\"\n", 64, r"bad.yaml:1:9: memory: '\\x1b\]52"),
    (b"#" * (1 << 20) + b"#\n", 64, "larger than 1 MiB"),
]

# Method, params, code of the error, and what it says. Sent as they are to the manager's socket.
REQUESTS = [
    ("nosuch", {}, "operation-failed", "nosuch"),
    ("status", {"name": 7}, "operation-failed", "'name'"),
    ("status", {"name": "../../etc"}, "usage", "sandbox name"),
    ("status", {}, None, ""),
    ("logs", {"name": "../x"}, "usage", "sandbox name"),
    ("start", {}, "usage", "working directory"),
    ("start", {"cwd": "relative"}, "usage", "working directory"),
    ("start", {"cwd": "/", "flags": []}, "usage", "'flags'"),
    ("start", {"cwd": "/", "flags": {"memory": ["1G"]}}, "usage", "'flags.memory'"),
    ("plan", {"cwd": "PROJECT", "flags": {"nosuch": "1"}}, "usage", "'nosuch'"),
    ("plan", {"cwd": "PROJECT", "env": 3}, "usage", "'env'"),
    ("plan", {"cwd": "PROJECT", "env": {"AGENTVM_MEMORY": None}}, "usage", "AGENTVM_MEMORY"),
    ("destroy", {"name": ""}, None, ""),
    ("sync", {"name": "nosuch"}, "not-found", "nosuch"),
    ("exec", {"name": "nosuch", "argv": "true"}, None, ""),
    ("exec", {"name": "nosuch", "argv": []}, None, ""),
    ("image.inspect", {}, "operation-failed", "'name'"),
    ("image.inspect", {"name": "../../../etc"}, "not-found", ""),
    ("image.remove", {"name": ["x"]}, "operation-failed", "'name'"),
    ("trust.set", {"cwd": "PROJECT"}, "operation-failed", "'digests'"),
    ("trust.set", {"cwd": "PROJECT", "digests": {"network": 1}}, "operation-failed", "'digests'"),
    ("trust.set", {"cwd": "PROJECT", "digests": {"network": "00"}}, "decision-needed", "nothing was trusted"),
    ("connect", {"name": "nosuch", "port": 70000}, None, ""),
    ("remote.fetch", {"name": "nosuch", "git_dir": "relative"}, None, ""),
]
CODES = {"not-found", "wrong-state", "operation-failed", "host-lacks", "cancelled", "decision-needed", "timed-out", "usage"}


@pytest.fixture(scope="module")
def places(home):
    elsewhere = home.folder / "elsewhere"
    elsewhere.mkdir()
    return {"PROJECT": str(harness.make_repository(home.folder / "project")), "ELSEWHERE": str(elsewhere)}


def say(result):
    text = result.stderr.decode(errors="replace")
    assert "\x1b" not in text
    return text


@pytest.mark.parametrize("words,code,expected", WORDS, ids=[row[0].replace("/", "|") for row in WORDS])
def test_words(agentvm, places, words, code, expected):
    argv = [places.get(word, word) for word in words.split()]
    result = agentvm.run(*argv, code=code)
    assert re.search(expected, say(result)), say(result)
    assert result.stdout == b"", "talk belongs on standard error"
    if "--json" in argv or "--" in argv or argv[0] in ("completion", "help", "strat"):
        return
    # With --json the same is an object, whatever went wrong.
    result = agentvm.run(*argv, "--json", code=(code, 64))
    if result.stdout:
        error = json.loads(result.stdout)
        assert error["schema"] == "agentvm.error/1" and error["exit_code"] == result.returncode and error["code"] in CODES and error["message"]


@pytest.mark.parametrize("variables,code,expected", VARIABLES, ids=[next(iter(row[0])) for row in VARIABLES])
def test_variables(agentvm, places, variables, code, expected):
    result = agentvm.run("plan", places["PROJECT"], code=code, env=variables)
    assert re.search(expected, say(result)), say(result)


@pytest.mark.parametrize("content,code,expected", FILES, ids=range(len(FILES)))
def test_files(agentvm, home, content, code, expected):
    path = home.folder / "bad.yaml"
    path.write_bytes(content)
    result = agentvm.run("config", "validate", path, code=code)
    assert re.search(expected, say(result)), say(result)


def test_files_that_are_none(agentvm, home):
    pipe = home.folder / "pipe.yaml"
    os.mkfifo(pipe)
    for path in (pipe, home.folder, "/dev/zero"):
        assert "not a regular file" in say(agentvm.run("config", "validate", path, code=64, timeout=20))


class Wire:
    """A client that says what it likes."""

    def __init__(self, agentvm):
        status = agentvm.json("manager", "status")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(status["socket"])
        self.lines = self.socket.makefile("rb")
        hello = {"magic": "agentvm", "version": status["version"], "features": [], "pid": os.getpid()}
        self.socket.sendall(json.dumps({"hello": hello}).encode() + b"\n")
        assert "hello" in json.loads(self.lines.readline())

    def ask(self, method, params):
        self.socket.sendall(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline())
            if "result" in answer or "error" in answer:
                return answer

    def close(self):
        self.lines.close()
        self.socket.close()


@pytest.mark.parametrize("method,params,code,expected", REQUESTS, ids=[f"{row[0]}-{index}" for index, row in enumerate(REQUESTS)])
def test_requests(agentvm, places, method, params, code, expected):
    pid = agentvm.manager_pid()
    params = params | ({"cwd": places["PROJECT"]} if params.get("cwd") == "PROJECT" else {})
    with contextlib.closing(Wire(agentvm)) as wire:
        answer = wire.ask(method, params)
    error = answer.get("error", {})
    assert error.get("code") in (CODES if code is None else {code}), answer
    assert expected in error["message"] and error["message"], answer
    assert agentvm.manager_pid() == pid, "the manager goes on"


def test_the_schema_and_the_program_agree(agentvm, home):
    """What an editor is told by `config schema` is what the program takes."""
    import jsonschema  # pylint: disable=import-outside-toplevel

    validator = jsonschema.Draft202012Validator(agentvm.json("config", "schema"))
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    path = home.folder / "checked.yaml"
    samples = {"size": ["2G", "lots", True], "count": [3, "three", -1], "boolean": [True, "yes", 1], "choice": [None, "nosuch"], "name": ["box", "No_Name"],
               "hosts": [["a.example"], "a.example", [1.5, {}]], "paths": [["docs/"], "docs/", [{}]], "image": ["default", ["x"]], "branch": ["main", {}],
               "host:port": [["a.example:22"], "a.example:22", [1.5, {}]], "choices": [[], ["nosuch"], "nosuch", [{}]],
               "proxy": ["http://proxy.example:3128/", "environment", "https://proxy.example", "http://me:secret@proxy.example:1", ["x"]],
               "variables": [["API_KEY", "API_*"], ["*"], ["1A"], "API_KEY", [{}]], "NAME=VALUE": [["A=b", "A="], ["A"], ["A B=c"], "A=b", [{}]],
               "caps": [["api.example.org 3 requests/hour"], ["*.example.org 2G bytes/day", "a.example 500k tokens/minute"], "a.example 3 requests/hour",
                        ["a.example 0 requests/day"], ["a.example 5 tokens/week"], ["a.example"], ["a.example 3K requests/day"], ["a.example 999999T bytes/day"], ["a.example 1000000T bytes/day"],
                        ["a.example 999999999999 tokens/day"], ["a.example 1000000000000 tokens/day"]],
               "secrets": [{"KEY": {"hosts": "a.example", "from": "env:A"}}, {"OPENAI_API_KEY": "env:A"}, {"OPENAI_API_KEY": {"from": "file:/a"}},
                           {"KEY": {"hosts": ["a.example"], "from": "env:A", "requests": ["GET,HEAD /v1/*"], "shape": "k-{}"}}, {}, {"KEY": "env:A"}, {"KEY": {"from": "env:A"}},
                           {"OPENAI_API_KEY": "sk-1"}, {"KEY": {"hosts": "a.example", "from": "env:A", "other": 1}}, {"1A": {"hosts": "a.example", "from": "env:A"}},
                           {"KEY": {"hosts": "a.example", "from": "env:A", "requests": "get /"}}, ["KEY"]],
               "levels": ["*:info", ["x"]], "text": ["x", ["x"]]}
    keys = agentvm.json("config", "show")["keys"]
    assert len(keys) > 20
    for key in keys:
        values = [key["default"] if value is None else value for value in samples[key["type"]]]
        for value in values:
            nested = value
            for part in reversed(key["name"].split(".")):
                nested = {part: nested}
            for document in (nested, {key["name"]: value}):
                path.write_text(json.dumps(document))
                taken = agentvm.run("config", "validate", path, code=(0, 64)).returncode == 0
                assert validator.is_valid(document) == taken, (document, taken)
    for document in ({"nosuch": 1}, {"workspace": {"nosuch": 1}}, {"sync": {"gate": {"nosuch": []}}}, {"workspace": "disk"}, []):
        path.write_text(json.dumps(document))
        agentvm.run("config", "validate", path, code=64)
        assert not validator.is_valid(document), document
