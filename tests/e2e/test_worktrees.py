"""A work tree per branch in one guest: folder, session, exec, attach, sync, status and removal. In order, on one guest."""

import pytest

import harness

NAME = "trees"
BRANCH = "Feature/Login"


@pytest.fixture(scope="module")
def repository(home):
    repository = harness.make_repository(home.folder / "project", {"README": "one\n", "docs/page": "1\n"})
    harness.git(repository, "branch", "side")
    return repository


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME, "--memory", "1G")
    return NAME


@pytest.fixture(scope="module")
def tree(agentvm, box):
    """The work tree of BRANCH, as `worktree add` tells of it."""
    return agentvm.json("worktree", "add", BRANCH, box, "--create")


def commit(agentvm, box, folder, path):
    script = f"cd {folder} && echo new >{path} && git add {path} && git {' '.join(harness.IDENTITY)} commit -q -m 'Add {path}' && git rev-parse HEAD"
    return agentvm.exec(box, "sh", "-c", script).strip()


def pending(agentvm, box, count):
    """Whether `status` tells of so many commits of the one work tree; null while the guest is too slow to be asked."""
    return lambda: agentvm.json("status", box)["worktrees"][0]["pending_commits"] == count


def test_it_has_a_folder_a_session_and_a_row(agentvm, box, tree):
    label = tree["path"].removeprefix("/workspace/.worktrees/")
    assert label.startswith("feature-login-") and len(label) == len("feature-login-") + 8
    assert tree["branch"] == BRANCH and tree["session"] == f"{box}-{label}"
    assert agentvm.exec(box, "git", "-C", tree["path"], "branch", "--show-current").strip() == BRANCH
    assert tree["session"] in agentvm.exec(box, "tmux", "list-sessions", "-F", "#S").split()
    assert agentvm.exec(box, "git", "-C", "/workspace", "status", "--porcelain") == ""
    (row,) = agentvm.json("worktree", "list", box)["worktrees"]
    assert (row["branch"], row["path"], row["pending_commits"]) == (BRANCH, tree["path"], 0)
    (row,) = agentvm.json("status", box)["worktrees"]
    assert row["branch"] == BRANCH and row["session"] == tree["session"] and row["path"] == tree["path"]
    harness.eventually(pending(agentvm, box, 0), 60, "nothing is pending")


def test_what_cannot_be_added(agentvm, box, tree):
    agentvm.run("worktree", "add", BRANCH, box, code=2)
    agentvm.run("worktree", "add", "main", box, code=2)
    assert b"--create" in agentvm.run("worktree", "add", "nosuch", box, code=1).stderr
    agentvm.run("worktree", "add", "../x", box, "--create", code=64)
    agentvm.run("worktree", "add", "wip/x", box, "--create", code=64)


def test_exec_and_attach_are_in_it(agentvm, box, tree, repository):
    assert agentvm.text("exec", box, "--worktree", BRANCH, "--", "pwd").strip() == tree["path"]
    assert agentvm.text("exec", "--worktree", BRANCH, "--", "pwd", cwd=repository / "docs").strip() == tree["path"] + "/docs"
    agentvm.run("exec", box, "--worktree", "nosuch", "--", "pwd", code=125)
    terminal = agentvm.spawn("attach", box, "--worktree", BRANCH)
    terminal.sendline("clear; echo in=$PWD=")
    terminal.expect_exact(f"in={tree['path']}=")
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0


def test_its_commits_are_pending_until_they_are_synced(agentvm, box, tree, repository):
    tip = commit(agentvm, box, tree["path"], "login")
    harness.eventually(pending(agentvm, box, 1), 60, "a commit is pending")
    refused = agentvm.run("worktree", "remove", BRANCH, box, code=6)
    assert b"1 commit" in refused.stderr and b"agentvm sync" in refused.stderr
    report = agentvm.json("sync", box, "--branch", BRANCH)
    assert report["branch"] == BRANCH and report["new_tip"] == tip
    assert harness.git(repository, "rev-parse", f"refs/agentvm/{box}/{BRANCH}") == tip
    harness.eventually(pending(agentvm, box, 0), 60, "nothing is pending")


def test_removing_it_by_force_keeps_what_is_in_it(agentvm, home, box, tree, repository):
    agentvm.exec(box, "sh", "-c", f"echo unsaved >{tree['path']}/unsaved")
    agentvm.run("worktree", "remove", BRANCH, box, code=6)
    assert agentvm.exec(box, "cat", f"{tree['path']}/unsaved") == "unsaved\n"
    removed = agentvm.json("worktree", "remove", BRANCH, box, "--force")
    (wip,) = [ref for ref in removed["rescued"] if "/wip/" in ref]
    assert wip.endswith("-" + tree["path"].rsplit("/", 1)[1])
    assert harness.git(repository, "show", f"{wip}:unsaved") == "unsaved"
    assert harness.record_of(home, box)["unsaved"], "the guest goes on, and a crash of it is to be salvaged"
    agentvm.exec(box, "test", "-e", tree["path"], code=1)
    assert tree["session"] not in agentvm.exec(box, "sh", "-c", "tmux list-sessions -F '#S' 2>/dev/null || true").split()
    assert BRANCH in agentvm.exec(box, "git", "-C", "/workspace", "branch", "--format", "%(refname:short)").split()
    assert agentvm.json("status", box)["worktrees"] == []
    agentvm.run("worktree", "remove", BRANCH, box, code=1)


def test_a_clean_one_goes_and_a_dirty_one_is_kept_at_the_stop(agentvm, box, repository):
    side = agentvm.json("worktree", "add", "side", box)
    assert side["path"] == "/workspace/.worktrees/side"
    agentvm.run("worktree", "remove", "side", box)
    agentvm.run("worktree", "add", "side", box)
    agentvm.exec(box, "sh", "-c", "echo unsaved >/workspace/.worktrees/side/README")
    agentvm.run("stop", box)
    assert agentvm.json("status", box)["worktrees"][0]["branch"] == "side"
    (entry,) = [e for e in agentvm.json("wip", "list", box)["wip"] if e["worktree"] == "side"]
    assert entry["branch"] == "side" and harness.git(repository, "show", entry["ref"] + ":README") == "unsaved"
