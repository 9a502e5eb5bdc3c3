"""Hosts that are less than ideal: folders whose paths no UNIX socket can have, and a /dev/shm that holds nothing."""

import os
import pathlib
import shutil
import tempfile

import pytest

import harness

SOCKET_PATH = 108  # struct sockaddr_un, unix(7)


@pytest.fixture(scope="module")
def far_away():
    top = pathlib.Path(tempfile.mkdtemp(prefix="avm-far-", dir=os.environ.get("TMPDIR", "/tmp")))
    folder = top / ("long" * 20) / "with a space" / ("prüfung" * 10)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(top)


class Elsewhere(harness.Agentvm):
    """With some of a home's variables changed."""

    def __init__(self, home, changes, **options):
        super().__init__(home, **options)
        self.changes = changes

    def run(self, *arguments, env=None, **options):
        return super().run(*arguments, env=self.changes | (env or {}), **options)


def test_a_state_folder_too_long_for_libvirts_sockets_is_refused_before_anything_is_made(home, far_away):
    repository = harness.make_repository(far_away / "project")
    client = Elsewhere(home, {"XDG_STATE_HOME": str(far_away / "state")})
    refused = client.run("start", repository, "--name", "box", "--no-attach", code=3)
    assert b"is longer than the 107 bytes a socket path may have" in refused.stderr and b"set AGENTVM_HOME to a shorter folder" in refused.stderr
    assert client.sandboxes() == []
    client.run("manager", "stop")


def test_the_main_job(home, far_away):
    """The manager runs in a mount namespace with a /dev/shm of 64 KiB, as in a container."""
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"] if os.geteuid() == 0 else []
    (far_away / "run").mkdir(mode=0o700)
    client = Elsewhere(home, {"XDG_RUNTIME_DIR": str(far_away / "run"), "HOME": str(far_away)}, prefix=small)
    assert len(str(far_away)) > SOCKET_PATH
    repository = harness.make_repository(far_away / "repository")
    client.start(repository, "box", "--memory", "1G")
    assert client.exec("box", "cat", "/workspace/README") == "one\n"
    # The guest's memory is not in /dev/shm, whose room it would end in the middle of.
    assert client.exec("box", "python3", "-c", "print(len(bytearray(300 << 20)))", timeout=240) == f"{300 << 20}\n"
    tip = harness.commit_inside(client, "box", "x", "new\n")
    assert client.json("sync", "box")["new_tip"] == tip
    os.kill(client.manager_pid(), 9)
    assert client.exec("box", "cat", "/workspace/x") == "new\n"
    client.run("stop", "box", timeout=180)
    client.start(repository, "box")
    assert client.exec("box", "cat", "/workspace/x") == "new\n"
    client.run("destroy", "box", "--force", timeout=180)
    client.run("manager", "stop")
