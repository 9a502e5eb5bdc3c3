"""Both workspace modes: what the user had lying about comes along as seen, and does not come back as a commit."""

import os

import pytest

import harness


@pytest.fixture(scope="module", params=["virtiofs", "disk"])
def box(request, agentvm, home):
    mode = request.param
    repository = harness.make_repository(home.folder / f"project-{mode}",
                                         {".gitignore": "ignored\n", "tracked": "1\n", "staged": "1\n", "gone": "1\n", "sub/deep file": "1\n"})
    (repository / "tracked").write_text("2\n")
    (repository / "staged").write_text("2\n")
    harness.git(repository, "add", "staged")
    (repository / "staged").write_text("3\n")
    (repository / "gone").unlink()
    (repository / "new").write_text("new\n")
    (repository / "run").write_text("#!/bin/sh\n")
    (repository / "run").chmod(0o755)
    (repository / "link").symlink_to("tracked")
    (repository / "ignored").write_text("secret\n")
    name = f"box-{mode}"
    agentvm.start(repository, name, "--workspace", mode)
    yield mode, name, repository
    agentvm.run("destroy", name, "--force", code=(0, 1))


def refs(name, repository):
    return harness.git(repository, "for-each-ref", "--format=%(objectname)", f"refs/agentvm/{name}/").split()


def test_the_mode_is_in_force(agentvm, box, home):
    mode, name, _ = box
    assert agentvm.json("status", name)["workspace_mode"] == mode
    kind = agentvm.exec(name, "stat", "-f", "-c", "%T", "/workspace").strip()
    assert (kind in ("fuseblk", "fuse", "virtiofs") or "fuse" in kind) == (mode == "virtiofs"), kind
    agentvm.exec(name, "sh", "-c", "echo mine >/workspace/mine && sudo sh -c 'echo theirs >/workspace/theirs'")
    clone = home.state / "sandboxes" / name / "workspace"
    if mode == "virtiofs":
        mine, theirs = (clone / "mine").stat().st_uid, (clone / "theirs").stat().st_uid
        assert mine == os.getuid() if os.getuid() else mine != 0  # root gives the clone to a subordinate id
        assert theirs not in (0, os.getuid())  # the guest's root is nobody here
    else:
        assert not (clone / "mine").exists()
    agentvm.exec(name, "sudo", "rm", "/workspace/mine", "/workspace/theirs")


def test_uncommitted_state_is_there_as_seen(agentvm, box):
    _, name, repository = box
    wanted = harness.git(repository, "status", "--porcelain")
    assert agentvm.exec(name, "git", "-C", "/workspace", "status", "--porcelain").strip() == wanted
    for path in ("tracked", "staged", "new"):
        assert agentvm.exec(name, "cat", f"/workspace/{path}") == (repository / path).read_text()
    assert agentvm.exec(name, "git", "-C", "/workspace", "show", ":staged") == "2\n"
    assert agentvm.exec(name, "readlink", "/workspace/link") == "tracked\n"
    agentvm.exec(name, "test", "-x", "/workspace/run")
    agentvm.exec(name, "test", "-e", "/workspace/ignored", code=1)


def test_a_dirty_checkout_is_not_moved(agentvm, box):
    _, name, repository = box
    before, seen = harness.git(repository, "rev-parse", "HEAD"), harness.git(repository, "status", "--porcelain")
    tip = harness.commit_inside(agentvm, name, "fresh", "1\n")
    report = agentvm.json("sync", name, code=6)
    assert report["result"] == "dirty"
    assert harness.git(repository, "rev-parse", "HEAD") == before
    assert harness.git(repository, "status", "--porcelain") == seen
    assert tip in refs(name, repository)
    # What the user had lying about is in none of the commits that came.
    assert harness.git(repository, "diff", "--name-only", before, tip) == "fresh"


def test_it_moves_once_the_checkout_is_clean(agentvm, box):
    _, name, repository = box
    harness.git(repository, "stash", "-q", "--include-untracked")
    report = agentvm.json("sync", name)
    assert report["result"] == "updated" and report["files_changed"] == 1
    assert (repository / "fresh").read_text() == "1\n"


def test_stop_rescues_uncommitted_work(agentvm, box):
    _, name, repository = box
    before = set(refs(name, repository))
    agentvm.exec(name, "sh", "-c", "echo unsaved >/workspace/unsaved")
    agentvm.run("stop", name)
    rescued = set(refs(name, repository)) - before
    assert any(harness.git(repository, "show", f"{tip}:unsaved", check=False) == "unsaved" for tip in rescued)
    agentvm.start(repository, name)
    assert agentvm.exec(name, "cat", "/workspace/unsaved") == "unsaved\n"


def test_destroying_brings_commits_to_the_host_first(agentvm, box):
    _, name, repository = box
    tip = harness.commit_inside(agentvm, name, "late", "late\n")
    agentvm.run("destroy", name, "--force")
    assert tip in refs(name, repository)
    assert agentvm.sandboxes() == []
