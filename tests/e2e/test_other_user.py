"""Another user of the host, who would like to have the sandboxes of this one: sockets, folders, and names taken beforehand."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

import harness

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two other users")

OWNER, OTHER = 64101, 64102  # ids that nobody has
HELLO = '{"magic":"agentvm","version":"0","features":[]}\n'

# Connects as OTHER, says hello, and prints what came back, or the name of the error.
CONNECT = """
import errno, socket, sys
try:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(sys.argv[1])
    client.sendall(sys.argv[2].encode())
    print(repr(client.recv(4096)))
except OSError as problem:
    print(errno.errorcode.get(problem.errno, problem))
"""


def as_user(uid):
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"]


def give(uid, path):
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(path)], check=True)


@pytest.fixture(scope="module")
def installed(image):
    """The program where every user can reach it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="avm-", dir="/var/tmp"))
    try:
        subprocess.run(["cmake", "--install", str(harness.BUILD), "--prefix", str(folder)], check=True, stdout=subprocess.DEVNULL)
        folder.chmod(0o755)
        yield folder / "bin" / "agentvm"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def home(installed):
    made = harness.Home.make()
    made.data = made.folder / "data"
    made.data.mkdir(mode=0o700)
    give(OWNER, made.folder)
    try:
        yield made
        harness.Agentvm(made, installed, as_user(OWNER)).run("manager", "stop", code=(0, 2))
    finally:
        harness.remove(made)


@pytest.fixture
def agentvm(home, installed):
    return harness.Agentvm(home, installed, as_user(OWNER))


def socket_of(home):
    return next((home.folder / "run" / "agentvm").glob("*.sock"))


def connect_as(uid, path):
    return subprocess.run([*as_user(uid), sys.executable, "-c", CONNECT, str(path), HELLO], capture_output=True, text=True, timeout=60,
                          check=True).stdout.strip()


def test_the_socket_is_out_of_reach(agentvm, home):
    agentvm.run("list")
    home.folder.chmod(0o755)
    assert connect_as(OTHER, socket_of(home)) == "EACCES"
    assert "agentvm" in connect_as(OWNER, socket_of(home)), "the same words of its own user are answered"


def test_a_socket_that_was_opened_to_all_answers_its_user_alone(agentvm, home):
    agentvm.run("list")
    path = socket_of(home)
    for opened in (home.folder, path.parent.parent, path.parent):
        opened.chmod(0o777)
    path.chmod(0o666)
    assert connect_as(OTHER, path) in ("b''", "ECONNRESET", "EPIPE")
    assert f"of uid {OTHER} turned away" in (home.state / "manager.log").read_text()


def test_somebody_elses_socket_is_not_talked_to(agentvm, home):
    agentvm.run("list")
    path = socket_of(home)
    agentvm.run("manager", "stop")
    path.unlink(missing_ok=True)
    home.folder.chmod(0o755)
    for opened in (path.parent.parent, path.parent):
        opened.chmod(0o777)
    script = ("import socket, sys\nserver = socket.socket(socket.AF_UNIX)\nserver.bind(sys.argv[1])\nimport os\nos.chmod(sys.argv[1], 0o777)\n"
              "server.listen()\nprint('ready', flush=True)\nclient, _ = server.accept()\nclient.settimeout(20)\nprint(repr(client.recv(4096)), flush=True)\n")
    with subprocess.Popen([*as_user(OTHER), sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout.readline() == "ready\n"
        result = agentvm.run("list", code=None, timeout=60)
        assert result.returncode not in (0, 2)
        assert f"is served by uid {OTHER}, not by you" in result.stderr.decode()
        assert listener.stdout.readline() == "b''\n", "not a byte went to it"
    path.unlink()


@pytest.mark.parametrize("place", ["run", "state"])
@pytest.mark.parametrize("kind", ["folder", "link", "open"])
def test_a_place_that_was_taken_beforehand_is_refused(agentvm, home, place, kind):
    taken, theirs = home.folder / place / "agentvm", home.folder / "theirs"
    theirs.mkdir()
    give(OTHER, theirs)
    theirs.chmod(0o777)
    if kind == "folder":
        taken.mkdir(mode=0o777)
        taken.chmod(0o777)
        give(OTHER, taken)
    elif kind == "link":
        taken.symlink_to(theirs)
    else:
        taken.mkdir()
        give(OWNER, taken)
        taken.chmod(0o777)
    result = agentvm.run("list", code=None, timeout=60)
    assert result.returncode not in (0, 2)
    said = result.stderr.decode()
    assert str(taken) in said, said
    assert {"folder": f"belongs to uid {OTHER}, not to you", "link": "is not a directory", "open": "is open to others"}[kind] in said, said
    assert list(theirs.iterdir()) == [], "nothing was written through the link"
    if taken.is_symlink():
        taken.unlink()
    else:
        shutil.rmtree(taken)


def test_the_log_is_not_written_through_a_link(agentvm, home):
    home.state.mkdir(mode=0o700)
    target = home.folder / "precious"
    target.write_text("mine\n")
    (home.state / "manager.log").symlink_to(target)
    for theirs in (home.folder / "state", target):  # so that nothing but the link speaks against it
        give(OWNER, theirs)
    result = agentvm.run("list", code=None, timeout=60)
    assert result.returncode not in (0, 2) and "manager.log: Too many levels of symbolic links" in result.stderr.decode()
    assert target.read_text() == "mine\n"
    (home.state / "manager.log").unlink()


def test_nothing_of_a_user_can_be_read_by_another(agentvm, home):
    agentvm.run("list")
    home.folder.chmod(0o755)
    for place in (home.state, home.folder / "run" / "agentvm"):
        result = subprocess.run([*as_user(OTHER), "ls", str(place)], capture_output=True, check=False)
        assert result.returncode != 0, place
    opened = subprocess.run([*as_user(OTHER), "find", "/tmp", "-xdev", "-user", str(OWNER), "-readable", "-type", "f"], capture_output=True,
                            text=True, check=False).stdout
    assert opened == ""
