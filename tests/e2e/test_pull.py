"""Commits by git's own means: git-remote-agentvm against a real guest, and what a hostile guest configuration can make the host run (nothing)."""

import os
import subprocess

import pytest

import harness

NAME = "pull"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n", "sub/b.txt": "two\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME)
    agentvm.exec(NAME, "sh", "-c", "cd /workspace && echo three >c.txt && git add c.txt && git commit -qm 'From the guest' && git branch side HEAD~1")
    return NAME


@pytest.fixture(scope="module")
def git(agentvm, home):
    """Git as a user runs it, the helper on its PATH."""

    def run(*arguments, cwd=None, code=0):
        environment = home.environment() | {"GIT_CONFIG_GLOBAL": "/dev/null"}
        environment["PATH"] = f"{harness.BUILD / 'bin'}:{environment['PATH']}"
        result = subprocess.run(["git", *map(str, arguments)], cwd=cwd or home.folder, env=environment, capture_output=True, text=True, timeout=120,
                                check=False)
        assert code is None or result.returncode == code, f"git {arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run


def test_ls_remote_lists_and_fetches_nothing(agentvm, box, git, repository):
    guest_tip = agentvm.exec(box, "git", "-C", "/workspace", "rev-parse", "HEAD").strip()
    lines = git("ls-remote", f"agentvm::{box}").stdout.splitlines()
    assert f"{guest_tip}\tHEAD" in lines and f"{guest_tip}\trefs/heads/main" in lines
    assert any(line.endswith("\trefs/heads/side") for line in lines)
    assert git("cat-file", "-e", guest_tip, cwd=repository, code=None).returncode != 0
    # Without a name: the sandbox of the project one stands in.
    assert f"{guest_tip}\tHEAD" in git("ls-remote", "agentvm::", cwd=repository / "sub").stdout


def test_clone_fetch_and_again(agentvm, box, git, home):
    clone = home.folder / "clone"
    git("clone", "-q", f"agentvm::{box}", clone)
    assert (clone / "c.txt").read_text() == "three\n"
    assert git("symbolic-ref", "refs/remotes/origin/HEAD", cwd=clone).stdout.strip() == "refs/remotes/origin/main"
    assert "side" in git("branch", "-r", cwd=clone).stdout
    agentvm.exec(box, "sh", "-c", "cd /workspace && git commit -q --allow-empty -m More")
    assert "main" in git("fetch", cwd=clone).stderr
    assert git("log", "-1", "--format=%s", "origin/main", cwd=clone).stdout == "More\n"
    assert git("fetch", cwd=clone).stderr == ""
    assert not list((clone / ".git/objects/pack").glob("*.keep"))
    git("fsck", "--strict", cwd=clone)
    git("fetch", "-q", f"agentvm::{box}", "main", cwd=clone)
    assert (clone / ".git/FETCH_HEAD").read_text().split()[0] == git("rev-parse", "origin/main", cwd=clone).stdout.strip()


def test_fetch_into_the_project_moves_nothing_of_the_users(box, git, repository):
    before = git("rev-parse", "main", cwd=repository).stdout
    git("remote", "add", "box", f"agentvm::{box}", cwd=repository)
    git("fetch", "-q", "box", cwd=repository)
    assert git("rev-parse", "main", cwd=repository).stdout == before
    assert git("status", "--porcelain", cwd=repository).stdout == ""
    assert git("log", "-1", "--format=%s", "box/main", cwd=repository).stdout == "More\n"


def test_what_a_sandbox_is_not(box, git, home, repository):
    assert git("push", f"agentvm::{box}", "HEAD:refs/heads/pushed", cwd=repository, code=None).returncode != 0
    assert "pushed" not in git("ls-remote", f"agentvm::{box}").stdout
    assert "nosuch" in git("ls-remote", "agentvm::nosuch", code=None).stderr
    shallow = home.folder / "shallow"
    git("clone", "-q", "--depth=1", f"file://{home.folder / 'clone'}", shallow)
    result = git("fetch", f"agentvm::{box}", cwd=shallow, code=None)
    assert result.returncode != 0 and "--unshallow" in result.stderr
    # The guest's own clone is no repository of the host's.
    inside = home.state / "sandboxes" / box / "workspace"
    if inside.is_dir():
        result = git("-c", "safe.directory=*", f"--git-dir={inside / '.git'}", "fetch", f"agentvm::{box}", code=None)
        assert result.returncode != 0 and "may be written by a guest" in result.stderr


def test_what_would_run_on_the_host_waits_for_its_user(agentvm, box, git, repository):
    script = "cd /workspace && mkdir -p .vscode && printf '{\\033]0;evil\\007}' >.vscode/tasks.json && ln -s /etc/passwd link && git add -A && git commit -qm Tasks"
    agentvm.exec(box, "sh", "-c", script)
    before = git("rev-parse", "main", cwd=repository).stdout
    plan = agentvm.json("sync", box, "--dry-run", code=6)
    assert plan["result"] == "gated" and git("rev-parse", "main", cwd=repository).stdout == before
    # Git's own fetch is told, and goes on.
    told = git("fetch", "box", cwd=repository).stderr
    assert "editor: .vscode/tasks.json" in told and "symlink-out: link" in told and "main -> box/main" in " ".join(told.split())
    shown = agentvm.run("sync", box, code=6).stdout.decode()
    assert "editor: .vscode/tasks.json" in shown and "symlink-out: link" in shown and "-> /etc/passwd" in shown
    assert f"agentvm sync {box} --accept" in shown and "\x1b]" not in shown
    assert git("rev-parse", "main", cwd=repository).stdout == before and not (repository / "link").is_symlink()
    # What the guest commits while its user reads is not what they accept.
    agentvm.exec(box, "sh", "-c", "cd /workspace && echo evil >.envrc && git add -A && git commit -qm More")
    assert b"were not listed when you were asked" in agentvm.run("sync", box, "--accept", code=6).stdout
    agentvm.run("sync", box, "--accept")
    assert (repository / ".envrc").read_text() == "evil\n"


def test_what_a_merge_would_meet_is_foretold(agentvm, box, git, repository):
    agentvm.exec(box, "sh", "-c", "cd /workspace && echo guest >a.txt && git commit -qam Change")
    (repository / "a.txt").write_text("mine, not committed\n")
    before = git("status", "--porcelain", cwd=repository).stdout
    result = agentvm.json("sync", box, code=6)
    assert (result["result"], result["conflicts"]) == ("dirty", ["a.txt"])
    assert (repository / "a.txt").read_text() == "mine, not committed\n" and git("status", "--porcelain", cwd=repository).stdout == before
    git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "Mine", cwd=repository)
    result = agentvm.json("sync", box, code=6)
    assert (result["result"], result["conflicts"]) == ("conflict", ["a.txt"])
    assert b"would conflict: a.txt" in agentvm.run("sync", box, code=6).stdout


def test_a_stopped_sandbox_says_so(agentvm, box, git):
    agentvm.run("stop", box)
    result = git("ls-remote", f"agentvm::{box}", code=None)
    assert result.returncode != 0 and "not running" in result.stderr and "agentvm start" in result.stderr
