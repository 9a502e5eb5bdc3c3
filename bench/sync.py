"""Figures `sync-*`: `agentvm sync` beside `git fetch` over OpenSSH (no master connection) from the same guest in the same run.

`sync-nothing`: both sides are equal. `sync-commit`: one new commit for each side, made before its clock starts. `sync-commits`: 10 000 commits, `sync-bytes`: one
file of 100 MB that does not compress; both hosts are put back to where they were before each run, which is not timed. Each run also says what the client, the
manager and its children used of the processor, and what `git fetch` and its ssh did.
"""

import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import harness  # noqa: E402
from figures import Figure  # noqa: E402
from processor import timed  # noqa: E402

FEW_PAIRS = 5  # where one run takes many seconds
COMMITS, MEGABYTES = 10_000, 100
NAME = "bench"
GUEST_GIT = f"git {' '.join(harness.IDENTITY)}"


def many(commits):
    return ("i=0; tip=$(git rev-parse HEAD); while [ $i -lt %d ]; do i=$((i+1)); printf 'commit refs/heads/main\\ncommitter A <a@b> %%s +0000\\ndata 1\\nx' "
            "$((1700000000+i)); [ $i = 1 ] && printf '\\nfrom %%s' $tip; printf '\\nM 100644 inline f%%s\\ndata %%s\\n%%s\\n\\n' $((i %% 100)) ${#i} $i; done | "
            "git fast-import --quiet && git reset -q --hard" % commits)


class Pair:
    """A project of agentvm's and a plain clone, both beside the same guest."""

    def __init__(self, home, agentvm):
        self.agentvm, self.environment = agentvm, home.environment()
        self.project = harness.make_repository(home.folder / "project")
        agentvm.start(self.project, NAME)
        stanza = agentvm.json("ssh-config", NAME)
        self.peer = home.folder / "peer"
        self.environment |= {"GIT_SSH_COMMAND": f"ssh -F {stanza['config_file']} -o ControlMaster=no -o ControlPath=none", "GIT_CONFIG_GLOBAL": "/dev/null"}
        self.git("clone", "-q", f"{stanza['host_alias']}:/workspace", self.peer, cwd=home.folder)
        self.saved = home.folder / "saved"

    def git(self, *words, cwd=None):
        subprocess.run(["git", *map(str, words)], cwd=cwd or self.peer, env=self.environment, check=True, capture_output=True, timeout=600)

    def inside(self, script):
        self.agentvm.run("exec", NAME, "--", "sh", "-c", f"cd /workspace && {script}", timeout=900)

    def commit(self):
        self.inside(f"date +%N >>log && git add log && {GUEST_GIT} commit -q -m x")

    def keep(self):
        """What `restore` goes back to."""
        shutil.rmtree(self.saved, ignore_errors=True)
        for folder in (self.project, self.peer):
            shutil.copytree(folder, self.saved / folder.name, symlinks=True)

    def restore(self, folder):
        shutil.rmtree(folder)
        shutil.copytree(self.saved / folder.name, folder, symlinks=True)

    def timed(self, prepare, run, watches_manager):
        def seconds():
            prepare()
            return timed(run, self.agentvm.manager_pid() if watches_manager else None)

        return seconds

    def product(self):
        self.agentvm.run("sync", NAME, timeout=600)

    def fetch(self):
        self.git("fetch", "-q")

    def measure(self, figure, count, prepare_product, prepare_peer):
        figure.measure(self.timed(prepare_product, self.product, True), self.timed(prepare_peer, self.fetch, False), count)
        return figure


def measure(pairs, commits=COMMITS, megabytes=MEGABYTES):
    home = harness.Home.make()
    agentvm = harness.Agentvm(home)
    try:
        agentvm.run("image", "build", timeout=1500)
        pair = Pair(home, agentvm)
        pair.product()
        few = min(pairs, FEW_PAIRS)
        figures = [pair.measure(Figure("sync-nothing", "agentvm sync, nothing new", "git fetch over ssh", 0.25), pairs, lambda: None, lambda: None),
                   pair.measure(Figure("sync-commit", "agentvm sync of one commit", "git fetch over ssh", 0.35), pairs,
                                lambda: (pair.product(), pair.commit()), lambda: (pair.fetch(), pair.commit()))]
        for name, what, script in (
                ("sync-bytes", f"agentvm sync of {megabytes} MB", f"head -c {megabytes}000000 /dev/urandom >big && git add big && {GUEST_GIT} commit -q -m x"),
                ("sync-commits", f"agentvm sync of {commits} commits", many(commits))):
            pair.product(), pair.fetch()
            pair.keep()
            pair.inside(script)
            figures.append(pair.measure(Figure(name, what, "git fetch over ssh", 1.1), few, lambda: pair.restore(pair.project), lambda: pair.restore(pair.peer)))
            pair.product()
        agentvm.run("destroy", NAME, "--force")
        return figures
    finally:
        agentvm.run("manager", "stop", code=None)
        harness.remove(home)
