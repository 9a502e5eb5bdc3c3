"""Row 1 of the threat model on a real guest: its root fills the clone with everything that git runs (canaries.py), every command of agentvm that has to do with
the sandbox is run beside it, and no file of a canary appears on the host; what the host started meanwhile is written down by the kernel (trace_exec.py) and
compared with a list. At the end the test's own git opens the clone, to see that the canaries would have sung."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import pytest

import canaries
import harness

NAME = "cage"
TRACER = pathlib.Path(__file__).with_name("trace_exec.py")
# Others than root may set such a filter only where setuid programs end, and with them newuidmap, which the share needs. The canaries are watched for anyway.
TRACED = os.geteuid() == 0


def traced(log, *command):
    return [sys.executable, TRACER, log, "--", *command] if TRACED else list(command)


# What a host process of ours may start, and for what.
ALLOWED = {
    "agentvm", "agentvm-manager", "agentvm-git", "agentvm-artifacts", "git-remote-agentvm",  # ourselves
    "git", "git-upload-pack", "git-remote-agentvm", "env", "sh", "dash",  # the user's repository; seeding, and git that starts our helper
    "ssh",  # agentvm ssh hands over to it
    "qemu-system-x86_64", "qemu-img", "kvm", "virtiofsd", "newuidmap", "newgidmap", "unshare",  # the guest
    "true",  # and what is tried in a user namespace before the guest's folders are made
    "head", "cat",  # virtiofsd's log, bounded
    "dmidecode",  # libvirt asks it about this machine
    "dpkg", "apt-config", "mmdebstrap", "depmod",  # doctor asks whether they are there, and for the package sources
    "loginctl",  # and what a logout ends
}


class Cage:
    def __init__(self, home):
        self.home = home
        self.folder = home.folder / "canaries"
        self.folder.mkdir()
        self.log = home.folder / "exec.log"
        self.agentvm = harness.Agentvm(home, prefix=traced(self.log))
        self.clone = home.state / "sandboxes" / NAME / "workspace"
        self.garden = canaries.Garden(self.clone, self.folder)

    def sung(self):
        return sorted(os.listdir(self.folder))

    def quiet(self, *arguments, **options):
        """Runs a command of agentvm, whatever comes of it, and demands that nothing sang."""
        result = self.agentvm.run(*arguments, **{"code": None} | options)
        assert self.sung() == [], f"agentvm {arguments} ran on the host: {self.sung()}"
        for line in (result.stdout + result.stderr).decode(errors="replace").splitlines():
            assert "\x1b" not in line
        return result

    def started(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def cage(home):
    return Cage(home)


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n", "sub/b.txt": "two\n"})


@pytest.fixture(scope="module")
def planted(cage, repository):
    """A guest whose root has written all of it. The clone is not looked at by the host from here on."""
    cage.agentvm.start(repository, NAME)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, (text, mode) in cage.garden.plant().items():
            info = tarfile.TarInfo(path.lstrip("/") if path.startswith("/") else f"workspace/{path}")
            info.size, info.mode = len(text.encode()), mode
            tar.addfile(info, io.BytesIO(text.encode()))
    script = ("tar -C / -xf - --no-same-owner && cd /workspace && cat .evil/appended >>.git/config && chown -R agent: .git/config /home/agent && "
              "cp /root/.gitconfig /etc/gitconfig.evil && cat /etc/gitconfig.evil >>/etc/gitconfig")
    cage.agentvm.run("exec", NAME, "--user", "root", "--", "sh", "-c", script, stdin=archive.getvalue())
    assert "evil" in (cage.clone / ".git/config").read_text()
    assert not cage.sung()
    return cage


def commit_inside(cage, path, content):
    script = (f"cd /workspace && printf %s '{content}' >{path} && git add {path} 2>/dev/null && "
              f"git {' '.join(harness.IDENTITY)} -c commit.gpgSign=false commit -q -m 'Add {path}' -- {path} && git rev-parse HEAD")
    return cage.agentvm.exec(NAME, "sh", "-c", script).strip()


def test_the_matrix_is_as_large_as_promised():
    assert canaries.KEYS >= 40 and len(canaries.PLACES) >= 9


def test_syncing_runs_nothing_of_the_guests(planted, repository):
    tip = commit_inside(planted, "c.txt", "three")
    for dry in (True, False):
        planted.quiet("sync", NAME, *(["--dry-run"] if dry else []), code=0)
    assert harness.git(repository, "rev-parse", "HEAD") == tip
    # Something for the gate, and for the host's own attributes and links.
    commit_inside(planted, ".gitattributes", "* filter=evil diff=evil merge=evil")
    planted.quiet("sync", NAME, code=6)
    planted.quiet("sync", NAME, "--json", code=6)
    planted.quiet("sync", NAME, "--branch", "main", "--accept", code=0)
    # Diverged, dirty, foretold, merged, sent back.
    commit_inside(planted, "a.txt", "guest")
    (repository / "a.txt").write_text("mine\n")
    planted.quiet("sync", NAME, code=6)
    harness.git(repository, "commit", "-qam", "Mine")
    planted.quiet("sync", NAME, code=6)
    harness.git(repository, "merge", "-q", "-X", "ours", "--no-edit", f"refs/agentvm/{NAME}/main")
    planted.quiet("sync", NAME, code=0)
    planted.agentvm.exec(NAME, "sh", "-c", "cd /workspace && git switch -q -c gone/on && git reset -q --hard")
    commit_inside(planted, "d.txt", "four")
    planted.quiet("sync", NAME, code=0)
    assert harness.git(repository, "branch", "--show-current") == "gone/on"


def test_every_command_beside_it_runs_nothing_of_the_guests(planted, repository):
    for command in (["status"], ["status", NAME, "--verbose"], ["status", "--all", "--json"], ["list"], ["list", "--json"], ["ports", NAME], ["logs", NAME],
                    ["ssh-config", NAME], ["exec", NAME, "--", "true"], ["exec", NAME, "--", "git", "-C", "/workspace", "log", "-1"],
                    ["ssh", NAME, "--", "true"], ["plan"], ["config", "show"], ["config", "validate"], ["manager", "status"], ["manager", "logs"],
                    ["doctor"], ["image", "list"], ["start"], ["plan", "start"], ["trust", "--dry-run"], ["agents", "list"], ["logs", NAME, "--agent"],
                    ["egress", "log", NAME], ["open", NAME], ["wip", "list", NAME], ["wip", "list"], ["worktree", "list", NAME],
                    ["worktree", "add", "beside", NAME, "--create"], ["exec", NAME, "--worktree", "beside", "--", "git", "status"], ["sync", NAME, "--branch", "beside"],
                    ["worktree", "remove", "beside", NAME, "--force"], ["sync", NAME, "--artifacts", "--dry-run"], ["suspend", NAME], ["status", NAME],
                    ["resume", NAME]):
        planted.quiet(*command, cwd=repository)
    # Where somebody stands in the guest's own clone, or in what it put there.
    for folder in (planted.clone, planted.clone / "nested", planted.clone / canaries.SCRIPTS / "tree", planted.clone / "bare.git"):
        for command in (["status"], ["sync"], ["sync", "--dry-run"], ["plan"], ["config", "show"], ["exec", "--", "true"]):
            planted.quiet(*command, cwd=folder)
        refused = planted.quiet("start", "--name", "other", "--no-attach", cwd=folder)
        assert refused.returncode not in (0, 2), "a sandbox was seeded from a repository that a guest can write"


def git(cage, *arguments, cwd):
    """Git as a user runs it, with our helper, traced like the rest."""
    environment = cage.home.environment() | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    environment["PATH"] = f"{harness.BUILD / 'bin'}:{environment['PATH']}"
    return subprocess.run(traced(cage.log, "git", *map(str, arguments)), cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=120, check=False)


def test_git_itself_fetches_without_running_anything(planted, repository):
    for arguments in (["ls-remote", f"agentvm::{NAME}"], ["fetch", "-q", f"agentvm::{NAME}"],
                      ["clone", "-q", f"agentvm::{NAME}", planted.home.folder / "clone"]):
        result = git(planted, *arguments, cwd=repository)
        assert result.returncode == 0, result.stderr
        assert planted.sung() == [], f"git {arguments}"


def test_a_git_dir_that_is_a_file_or_a_link_leads_nowhere(planted, repository):
    """The clone's .git itself becomes a link out, then a file that leads to another git dir: sync asks the guest, and nobody else looks."""
    for replacement in (f"ln -s {planted.clone}/.evil/common .git", "echo 'gitdir: .evil/linked' >.git"):
        planted.agentvm.run("exec", NAME, "--user", "root", "--", "sh", "-c", f"cd /workspace && mv .git .kept && {replacement}")
        for command in (["sync", NAME], ["status", NAME], ["plan"]):
            planted.quiet(*command, cwd=repository)
        planted.agentvm.run("exec", NAME, "--user", "root", "--", "sh", "-c", "cd /workspace && rm .git && mv .kept .git")


def test_stop_resume_and_destroy_run_nothing_of_the_guests(planted, repository):
    planted.agentvm.exec(NAME, "sh", "-c", "cd /workspace && echo half >unfinished.txt")
    planted.quiet("stop", NAME, "--sync", code=0)
    planted.quiet("status", NAME, code=0)
    planted.quiet("sync", NAME, code=2)
    planted.quiet("wip", "list", NAME, code=0, cwd=repository)
    planted.quiet("wip", "show", NAME, code=0, cwd=repository)
    planted.quiet("wip", "apply", NAME, cwd=repository)
    harness.git(repository, "reset", "-q", "--hard")
    harness.git(repository, "clean", "-qfd")
    planted.quiet("start", repository, "--name", NAME, "--no-attach", code=0, timeout=harness.START_SECONDS)
    planted.quiet("sync", NAME)
    assert "unfinished" in " ".join(harness.git(repository, "ls-tree", "-r", "--name-only", ref)
                                    for ref in harness.git(repository, "for-each-ref", "--format=%(refname)", f"refs/agentvm/{NAME}").split())


def test_the_canaries_would_have_sung(planted):
    """The test's own git, in the clone, as no code of ours does it: each place sings, and most keys."""
    control = planted.home.folder / "control"
    control.mkdir()
    copy = control / "clone"
    subprocess.run(["cp", "-a", planted.clone, copy], check=True)  # the scripts' paths stay those of the clone
    environment = {"PATH": os.environ["PATH"], "HOME": str(control), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "TERM": "dumb"}
    (control / ".gitconfig").write_text("[safe]\n\tdirectory = *\n[user]\n\tname = A\n\temail = a@example.invalid\n")

    def run(folder, *arguments, **extra):
        subprocess.run(["git", *arguments], cwd=folder, env=environment | extra, input=b"protocol=https\nhost=example.invalid\n\n", capture_output=True,
                       timeout=60, check=False)

    (copy / "a.txt").write_text("changed\n")
    for place in (copy, copy / "nested", copy / ".evil" / "tree", copy / "bare.git", copy / ".evil" / "alternate"):
        run(place, "status")
        run(place, "add", "-A")
        run(place, "commit", "-q")
        run(place, "-p", "log", "-1")
        run(place, "diff", "HEAD")
        run(place, "fetch", "evil")
        run(place, "fetch", "origin")
        run(place, "evil")
        run(place, "update-ref", "refs/heads/x", "HEAD")
        run(place, "symbolic-ref", "HEAD", "refs/heads/main")
        run(place, "-c", f"core.hooksPath={place}/.git/hooks", "update-ref", "refs/heads/y", "HEAD")
        run(place, "ls-remote", "https://example.invalid/x")
        run(place, "archive", "--format=evil", "HEAD")
        run(place, "difftool", "--no-prompt", "HEAD~1")
        run(place, "credential", "fill")
        run(place, "rev-parse", "--all")
    for extra in ("fetch git://example.invalid/x", "push ssh://example.invalid/x main", "commit -S -q --allow-empty -m x", "tag -s -m x t", "rebase -i HEAD~1",
                  "checkout -- a.txt", "interpret-trailers --trailer evil:x", "send-email --to=a@example.invalid -1", "gc --prune=now", "stash", "merge HEAD~2",
                  "web--browse https://example.invalid", "help -m git", "branch -a", "show"):
        run(copy, "-p", *extra.split())
    (control / ".gitconfig").write_text((control / ".gitconfig").read_text() + planted.garden.config("home"))
    run(repository_of(planted), "status")
    sung = planted.sung()
    places = {name.split("~")[0] for name in sung}
    keys = {name.split("~", 1)[1] for name in sung}
    assert places >= set(canaries.PLACES), (sorted(places), sorted(keys))
    assert len(keys) >= 15, sorted(keys)


def test_what_a_dead_guest_left_is_read_without_running_it(planted, repository):
    for path in planted.folder.iterdir():  # what the test before let sing
        path.unlink()
    planted.agentvm.exec(NAME, "sh", "-c", "cd /workspace && echo late >late.txt && sync")
    planted.quiet("stop", NAME, "--force", code=0)
    gone = planted.quiet("destroy", NAME, "--force", "--json", code=0, timeout=300)
    saved = [ref for ref in json.loads(gone.stdout)["rescued"] if "/wip/" in ref]
    assert any(harness.git(repository, "show", f"{ref}:late.txt", check=False) == "late" for ref in saved), gone.stderr


def repository_of(cage):
    return cage.home.folder / "project"


@pytest.mark.skipif(not TRACED, reason="needs root, to be told what is executed without keeping setuid programs from it")
def test_what_the_host_started_is_on_the_list(planted):
    entries = planted.started()
    seen = {pathlib.Path(entry["path"]).name for entry in entries}
    assert "agentvm-git" in seen and "git" in seen and any(name.startswith("qemu-system") for name in seen), seen
    surprising = [entry for entry in entries if pathlib.Path(entry["path"]).name not in ALLOWED]
    assert not surprising, surprising[:5]
    # No program of the host's works in the guest's clone, comes from there, or is told to go there; virtiofsd shares it.
    clone = re.escape(str(planted.clone))
    for entry in entries:
        if pathlib.Path(entry["path"]).name in ("agentvm", "virtiofsd"):
            continue
        assert not any(re.search(clone + r"(/|$)", text) for text in (entry["path"], entry["cwd"], *entry["argv"])), entry
