"""Work of a guest that is gone, whose workspace is on its disk: read from there, read-only, by destroy."""

import os
import signal
import subprocess

import pytest

import harness

BOX = "on-disk"
RESCUE_SECONDS = 600


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n", ".gitignore": "*.log\n"})


def crash(agentvm, home, name):
    """Ends the machine of the only sandbox as a power cut would."""
    agentvm.exec(name, "sync")
    machines = harness.processes(home, "qemu-system")
    assert len(machines) == 1, machines
    os.kill(next(iter(machines)), signal.SIGKILL)
    harness.eventually(lambda: agentvm.json("status", name)["state"] != "running", 30, "the end is noticed")


def test_commits_and_uncommitted_work_come_home(agentvm, home, repository):
    agentvm.start(repository, BOX, "--workspace", "disk")
    tip = harness.commit_inside(agentvm, BOX, "b.txt", "two\n")
    canary = home.folder / "canary"
    agentvm.exec(BOX, "sh", "-c", rf"""cd /workspace && echo changed >a.txt && echo new >new.txt && echo noise >noise.log &&
        git config core.fsmonitor 'touch {canary}' && mkdir -p .git/hooks && printf '#!/bin/sh\ntouch {canary}\n' >.git/hooks/post-commit &&
        chmod +x .git/hooks/post-commit && ln -s /etc/passwd link && mkfifo pipe && sudo mknod device b 7 0 && sudo chown agent device &&
        cp /bin/true setuid && chmod 4755 setuid && touch "$(printf 'odd\nname\033]0;x\007')" && git branch side""")
    crash(agentvm, home, BOX)
    result = agentvm.run("destroy", BOX, "--force", "--json", timeout=RESCUE_SECONDS)
    assert b"\033" not in result.stderr and b"could not be read" not in result.stderr, result.stderr
    refs = harness.git(repository, "for-each-ref", "--format=%(refname)").split()
    assert f"refs/agentvm/{BOX}/side" in refs
    assert harness.git(repository, "rev-parse", f"refs/agentvm/{BOX}/main") == tip
    wip = [ref for ref in refs if "/wip/" in ref]
    assert len(wip) == 1, refs
    assert harness.git(repository, "rev-parse", wip[0] + "^") == tip
    assert harness.git(repository, "show", wip[0] + ":a.txt") == "changed"
    names = harness.git(repository, "ls-tree", "-r", "-z", wip[0]).split("\0")
    saved = {name.split("\t", 1)[1]: name.split()[0] for name in names if name}
    assert {"a.txt", "b.txt", "new.txt", "link", "setuid"} <= set(saved) and not {"pipe", "device", "noise.log"} & set(saved), saved
    assert saved["link"] == "120000" and saved["setuid"] == "100755"
    assert harness.git(repository, "show", wip[0] + ":link") == "/etc/passwd"
    assert not canary.exists()
    assert not list((home.state / "kept-disks").glob("*")), "nothing is kept of a disk that was read"
    assert not (home.state / "sandboxes" / BOX).exists()
    assert not harness.processes(home, "qemu-system") and not harness.processes(home, "agentvm-guestfs")
    assert harness.temporary_files(home) == []


def test_ending_it_by_force_loses_no_commit(agentvm, home, repository):
    agentvm.start(repository, BOX, "--workspace", "disk")
    tip = harness.commit_inside(agentvm, BOX, "c.txt", "three\n")
    agentvm.run("stop", BOX, "--force")  # at once: git has not waited for the disk, nor has the guest's kernel
    result = agentvm.run("destroy", BOX, "--force", timeout=RESCUE_SECONDS)
    assert b"could not be read" not in result.stderr, result.stderr
    assert harness.git(repository, "rev-parse", f"refs/agentvm/{BOX}/main") == tip


@harness.full_tier("one more machine to read with")
def test_a_workspace_that_leads_elsewhere_keeps_the_disk(agentvm, home, repository):
    agentvm.start(repository, BOX, "--workspace", "disk")
    agentvm.exec(BOX, "sudo", "sh", "-c", "mv /workspace /elsewhere && ln -s /etc /workspace", cwd=repository)
    crash(agentvm, home, BOX)
    result = agentvm.run("destroy", BOX, "--force", timeout=RESCUE_SECONDS)
    assert b"/workspace is no folder on the disk" in result.stderr, result.stderr
    kept = list((home.state / "kept-disks").glob("*.qcow2"))
    assert len(kept) == 1 and str(kept[0]).encode() in result.stderr


STILL = "still"


@pytest.fixture(scope="module")
def still(agentvm, repository):
    """A stopped sandbox with files worth reading."""
    agentvm.start(repository, STILL, "--workspace", "disk")
    agentvm.exec(STILL, "sh", "-c", """mkdir -p ~/notes && printf 'kept\\033]0;x\\007\\n' >~/notes/a && cp /bin/true ~/notes/run && ln -s /etc/passwd ~/notes/link &&
        touch "$(printf '/home/agent/notes/odd\\033]0;x\\007')" && mkfifo ~/notes/pipe && sync""")
    running = agentvm.run("rescue", STILL, "ls", "/", code=2)
    assert b"agentvm exec" in running.stderr
    agentvm.run("stop", STILL)
    return STILL


def rescue(agentvm, name, *words, code=0, **options):
    return agentvm.run("rescue", name, *words, code=code, timeout=RESCUE_SECONDS, **options)


def test_files_of_a_stopped_sandbox_are_read(agentvm, home, still):
    listing = {entry["name"]: entry for entry in agentvm.json("rescue", still, "ls", "/home/agent/notes", timeout=RESCUE_SECONDS)["entries"]}
    assert listing["a"]["kind"] == "file" and listing["link"]["target"] == "/etc/passwd" and listing["pipe"]["kind"] == "other"
    assert not any("\033" in each for each in listing)
    assert rescue(agentvm, still, "cat", "/home/agent/notes/a", stdin="left alone").stdout == b"kept\033]0;x\007\n"
    terminal = agentvm.spawn("rescue", still, "cat", "/home/agent/notes/a", timeout=RESCUE_SECONDS)
    shown = terminal.read()
    assert b"kept" in shown and b"\033]0;" not in shown, "raw text reached a terminal"
    assert harness.exit_status(terminal) == 0
    work = rescue(agentvm, still, "cp", "/workspace", home.folder / "work")
    assert b".git/HEAD" in work.stderr and (home.folder / "work/.git/HEAD.rescued").exists() and (home.folder / "work/a.txt").exists()
    for target in (home.folder / ".git", home.folder / ".GIT"):
        refused = agentvm.run("rescue", still, "cp", "/home/agent/notes/a", target, code=64)
        assert b"take it for a repository" in refused.stderr and not target.exists()
    assert b"none of ls, cat and cp" in agentvm.run("rescue", still, "mv", "/a", code=64).stderr


@harness.full_tier("nine more machines to read with")
def test_what_is_copied_and_what_is_in_its_way(agentvm, home, still):
    assert b"\033" not in rescue(agentvm, still, "ls", "/home/agent/notes").stdout
    target = home.folder / "copied"
    copied = rescue(agentvm, still, "cp", "/home/agent/notes", target)
    assert (target / "a").read_bytes() == b"kept\033]0;x\007\n" and os.readlink(target / "link") == "/etc/passwd"
    assert os.access(target / "run", os.X_OK) and not (target / "pipe").exists() and b"1 devices" in copied.stderr
    again = rescue(agentvm, still, "cp", "/home/agent/notes", target)
    assert (target / "notes" / "a").exists() and b"copied to" in again.stderr
    assert b"exists already" in rescue(agentvm, still, "cp", "/home/agent/notes", target, code=2).stderr
    one = agentvm.json("rescue", still, "cp", "/home/agent/notes/run", home.folder / "one", timeout=RESCUE_SECONDS)
    assert one["kind"] == "file" and os.access(home.folder / "one", os.X_OK)
    assert b"there is no /nothing" in rescue(agentvm, still, "cat", "/nothing", code=1).stderr
    folder = rescue(agentvm, still, "cat", "/etc", code=2)
    assert b"is a folder" in folder.stderr and b"agentvm rescue still ls /etc" in folder.stderr
    assert not [each for each in home.folder.iterdir() if each.name.startswith(".agentvm-rescue")]


@harness.full_tier("one more machine to read with")
def test_a_kept_disk_is_read_by_its_sandboxs_name(agentvm, still):
    agentvm.run("destroy", still, "--force", "--keep-disk")
    with agentvm.popen("rescue", still, "cat", "/home/agent/notes/a", stdout=subprocess.PIPE) as beside:
        assert rescue(agentvm, still, "cat", "/home/agent/notes/a").stdout.startswith(b"kept")
        assert beside.communicate(timeout=RESCUE_SECONDS)[0].startswith(b"kept"), "by two at once, one after the other"
