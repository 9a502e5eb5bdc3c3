"""A sandbox for one command: streams, status, commits, and what is left of it - nothing - however it ends."""

import json
import os
import signal
import subprocess
import time

import pytest

import harness

SMALL = ("--memory", "1G", "--vcpus", "1")
COMMIT = f"git add -A && git {' '.join(harness.IDENTITY)} commit -q -m 'From a run' && git rev-parse HEAD"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"README": "one\n", "docs/page": "1\n"})


def nothing_left(agentvm, home):
    return not agentvm.sandboxes() and not list((home.state / "sandboxes").glob("*")) and not harness.processes(home, "qemu")


def own_references(repository):
    return harness.git(repository, "for-each-ref", "--format=%(refname)", "refs/agentvm/").split()


def test_a_command_passes_through_and_its_commits_come_home(agentvm, home, repository):
    done = agentvm.run("run", *SMALL, "--", "sh", "-c", f"cat; pwd; echo two >made && {COMMIT}; echo aside >&2", stdin="in\n",
                       cwd=repository / "docs", timeout=300)
    words = done.stdout.decode().split()
    assert words[:2] == ["in", "/workspace/docs"] and b"aside\n" in done.stderr
    assert harness.git(repository, "rev-parse", "HEAD") == words[2]
    assert nothing_left(agentvm, home)
    assert own_references(repository) == [], "all of its commits are on the branch: nothing need keep them"


@harness.full_tier("one more boot")
def test_a_guest_that_may_not_nest_has_no_kvm(agentvm, home, repository):
    seen = agentvm.text("run", *SMALL, "--no-nested", "--", "sh", "-c", "findmnt -no FSTYPE /workspace; ls /dev/kvm 2>&1; grep -cE 'svm|vmx' /proc/cpuinfo",
                        cwd=repository, code=1, timeout=300).split("\n")
    assert seen[0] == "virtiofs" and "No such file" in seen[1] and seen[2] == "0"


def test_status_and_uncommitted_work_come_home_too(agentvm, home, repository):
    done = agentvm.run("run", *SMALL, "--json", "--", "sh", "-c", "echo draft >draft; echo out; exit 7", cwd=repository, code=7, timeout=300)
    result = json.loads(done.stdout)
    assert (result["exit_code"], result["origin"], result["stdout"], result["kept"]) == (7, "guest", "out\n", False)
    assert result["sync"]["result"] == "up-to-date" and result["problem"] is None
    (ref,) = own_references(repository)
    assert ref.startswith(f"refs/agentvm/{result['name']}/wip/") and harness.git(repository, "show", ref + ":draft") == "draft"
    assert nothing_left(agentvm, home)
    agentvm.run("wip", "drop", result["name"], "--all", "--force", cwd=repository)


def test_what_waits_for_a_decision_is_status_6_and_says_where(agentvm, home, repository):
    before = harness.git(repository, "rev-parse", "HEAD")
    done = agentvm.run("run", *SMALL, "--", "sh", "-c", f"echo 'all:' >Makefile && {COMMIT}", cwd=repository, code=6, timeout=300)
    tip = done.stdout.decode().strip()
    (ref,) = own_references(repository)
    assert harness.git(repository, "rev-parse", ref) == tip and harness.git(repository, "rev-parse", "HEAD") == before
    assert f"git merge {ref}".encode() in done.stderr and b"agentvm sync" not in done.stderr
    assert nothing_left(agentvm, home)
    harness.git(repository, "update-ref", "-d", ref)


def run_in_background(agentvm, repository, script):
    client = agentvm.popen("run", *SMALL, "--", "sh", "-c", script, cwd=repository, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
    assert client.stdout.readline().strip() == b"there"
    return client


def test_interrupted_and_killed_clients_leave_nothing_but_the_work(agentvm, home, repository):
    """Both at once, which is also what shows that two runs of one repository do not see each other."""
    head = harness.git(repository, "rev-parse", "HEAD")
    script = "echo %s >%s; echo there; sleep 600"
    first = run_in_background(agentvm, repository, script % ("one", "one"))
    second = run_in_background(agentvm, repository, script % ("two", "two"))
    assert len(agentvm.sandboxes()) == 2
    first.send_signal(signal.SIGTERM)
    second.kill()
    assert first.wait(120) == 128 + signal.SIGTERM
    second.wait(60)
    harness.eventually(lambda: nothing_left(agentvm, home), 120, "both sandboxes are gone")

    def kept():
        """The files that each reference of the runs adds. Those that nobody needs are forgotten once the sandbox is gone."""
        return sorted(harness.git(repository, "diff-tree", "--no-commit-id", "--name-only", "-r", "HEAD", ref, check=False) for ref in own_references(repository))

    harness.eventually(lambda: kept() == ["one", "two"], 60, "what was uncommitted is kept, and nothing else")
    assert harness.git(repository, "rev-parse", "HEAD") == head
    for ref in own_references(repository):
        harness.git(repository, "update-ref", "-d", ref)


def test_a_machine_that_ends_gives_up_its_work(agentvm, home, repository):
    client = agentvm.popen("run", *SMALL, "--", "sh", "-c", "echo five >five; echo there; sleep 600", cwd=repository,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline().strip() == b"there"
    (machine,) = harness.processes(home, "qemu-system")
    os.kill(machine, signal.SIGKILL)
    words = client.communicate(timeout=120)[1].decode()
    assert client.returncode == 125
    assert "how the command ended is unknown" in words and "runs on" not in words
    assert nothing_left(agentvm, home)
    (ref,) = own_references(repository)
    assert harness.git(repository, "show", ref + ":five") == "five"
    harness.git(repository, "update-ref", "-d", ref)


def test_a_killed_manager_is_followed_by_one_that_ends_the_run(agentvm, home, repository):
    client = run_in_background(agentvm, repository, f"echo three >three && {COMMIT} >/dev/null; echo there; sleep 600")
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    assert client.wait(60) == 125
    agentvm.run("list")
    harness.eventually(lambda: nothing_left(agentvm, home), 120, "the sandbox is gone")
    assert (repository / "three").exists(), "its commit came home"


def test_a_start_that_fails_leaves_nothing(agentvm, home, repository):
    agentvm.run("run", "--image", "nosuch", "--", "true", cwd=repository, code=125)
    agentvm.run("run", cwd=repository, code=64)
    failed = agentvm.run("run", *SMALL, "--", "/nosuch/program", cwd=repository, code=127, timeout=300)
    assert b"nosuch" in failed.stderr
    assert nothing_left(agentvm, home)


def test_a_clone_goes_unless_it_holds_work(agentvm, home, repository):
    url = "file://" + str(repository)
    before = set((home.data / "agentvm" / "runs").glob("*/*"))  # of a run that was killed, maybe

    def clones():
        return set((home.data / "agentvm" / "runs").glob("*/*")) - before

    agentvm.run("run", "--repo", url, *SMALL, "--", "test", "-f", "README", timeout=300)
    assert not clones()
    done = agentvm.run("run", "--repo", url, *SMALL, "--", "sh", "-c", f"echo four >four && {COMMIT}", timeout=300)
    (clone,) = clones()
    assert str(clone).encode() in done.stderr
    assert harness.git(clone, "rev-parse", "HEAD") == done.stdout.decode().strip()
    subprocess.run(["rm", "-rf", str(clone.parent)], check=True)
    agentvm.run("run", "--repo", url, "--image", "nosuch", "--", "true", code=125)
    agentvm.run("run", "--repo", url, "--name", "No_Name", "--", "true", code=64)
    assert not clones(), "what could not begin needs no clone"
    refused = agentvm.run("run", "--repo", url + "-nosuch", "--", "true", code=125)
    assert b"could not clone" in refused.stderr and not clones()


def test_with_a_name_it_stays(agentvm, home, repository):
    kept = agentvm.run("run", "--name", "lab", *SMALL, "--", "sh", "-c", "echo kept >/var/tmp/kept", cwd=repository, timeout=300)
    assert b"'lab' runs on: `agentvm attach lab`" in kept.stderr
    assert agentvm.sandboxes() == ["lab"]
    began = time.monotonic()
    assert agentvm.text("run", "--name", "lab", "--", "cat", "/var/tmp/kept", cwd=repository) == "kept\n"
    assert time.monotonic() - began < 60
    assert agentvm.json("status", cwd=repository)["name"] == "lab"
    agentvm.run("destroy", "lab", "--force")
