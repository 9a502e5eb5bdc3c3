"""Where a command runs in the guest, and commands that go on alone."""

import os
import signal

import pytest

import harness

NAME = "places"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"README": "one\n", "web/app/index.js": "1\n", "odd name/'x'/y": "1\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.run("start", repository, "--name", NAME, "--memory", "1G", "--no-attach", timeout=harness.START_SECONDS)
    return NAME


@pytest.mark.parametrize("subfolder, words, expected", [
    ("", [], "/workspace"),
    ("web", [], "/workspace/web"),
    ("web/app", [], "/workspace/web/app"),
    ("odd name/'x'", [], "/workspace/odd name/'x'"),
    ("web", ["--workdir", "app"], "/workspace/web/app"),
    ("web", ["--workdir", "../web/./app"], "/workspace/web/app"),
    ("web/app", ["--workdir", "/tmp"], "/tmp"),
])
def test_the_hosts_subfolder_is_the_guests(agentvm, box, repository, subfolder, words, expected):
    # Without a name: the project's sandbox is found from below, too.
    assert agentvm.text("exec", *words, "--", "pwd", cwd=repository / subfolder) == expected + "\n"


def test_elsewhere_it_is_the_workspace(agentvm, home, box):
    other = harness.make_repository(home.folder / "other", {"web/x": "1\n"})
    for folder in (home.folder, other, other / "web", "/"):
        assert agentvm.text("exec", box, "--", "pwd", cwd=folder) == "/workspace\n"


def test_a_link_into_the_project_counts_as_where_it_leads(agentvm, home, box, repository):
    link = home.folder / "link"
    link.symlink_to(repository / "web")
    assert agentvm.text("exec", box, "--", "pwd", cwd=link) == "/workspace/web\n"


def test_a_folder_that_the_guest_does_not_have_is_said(agentvm, box, repository):
    (repository / "new").mkdir()
    result = agentvm.run("exec", "--", "true", cwd=repository / "new", code=126)
    assert b"/workspace/new" in result.stderr


def test_what_is_detached_goes_on_alone(agentvm, box):
    done = agentvm.run("exec", box, "--detach", "--", "sh", "-c", "echo first >/tmp/d; sleep 3; echo second >>/tmp/d; sleep 600; : detached-marker")
    assert done.stdout == b"" and b"started in the guest" in done.stderr
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    harness.eventually(lambda: agentvm.exec(box, "cat", "/tmp/d") == "first\nsecond\n", 60, "it goes on without the manager")
    assert "detached-marker" in agentvm.exec(box, "ps", "-ef")
    assert agentvm.json("exec", box, "--detach", "--", "true")["detached"] is True
    place = agentvm.run("exec", box, "--detach", "--workdir", "/tmp", "--env", "WHO=me", "--", "sh", "-c", "echo $PWD $WHO >/tmp/place")
    assert place.returncode == 0
    harness.eventually(lambda: agentvm.run("exec", box, "--", "cat", "/tmp/place", code=None).stdout == b"/tmp me\n", 20, "place and variables hold")


def test_what_cannot_be_detached_is_an_error(agentvm, box):
    missing = agentvm.run("exec", box, "--detach", "--", "no-such-program", code=127)
    assert b"'no-such-program' was not found in the guest" in missing.stderr
    assert b"error: '/etc/passwd' could not be started" in agentvm.run("exec", box, "--detach", "--", "/etc/passwd", code=126).stderr
    nowhere = agentvm.run("exec", box, "--detach", "--workdir", "/nowhere", "--", "true", code=126)
    assert b"could not be started" in nowhere.stderr
