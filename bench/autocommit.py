"""Figure `auto-commit`: from a commit in the guest to its reference on the host, beside one `exec -- true` and one sync of one commit.

The clock starts when the guest's own reference, seen through the shared folder, names a new commit and stops when the reference file on the host names that commit.
(The guest's report that `git commit` has returned comes later than that.) The peer's commit is made before its clock starts. The processor's seconds are those of
the client (the product needs none), of the one manager, and of its children until a second after the clock stopped.
"""

import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import harness  # noqa: E402
from figures import Figure  # noqa: E402
from processor import timed  # noqa: E402

LOOP = ("cd /workspace && while read -r line; do echo $line >file && git add file && "
        f"git {' '.join(harness.IDENTITY)} commit -qm $line && git rev-parse HEAD || exit 1; done")
SETTLE = 1.0  # seconds; a sync goes on after its reference is there
QUIET = 2.5  # seconds between two of ours: its least pause must not be measured, and one that is late must be over


class Committer:
    """A shell in the guest that commits for each line it gets, and answers with the new tip."""

    def __init__(self, agentvm, name):
        self.process = agentvm.popen("exec", name, "--", "sh", "-c", LOOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.count = 0

    def begin(self):
        self.count += 1
        self.process.stdin.write(f"commit{self.count}\n")
        self.process.stdin.flush()

    def end(self):
        return self.process.stdout.readline().strip()

    def commit(self):
        self.begin()
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def wait_until(holds, what):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.002)
    raise AssertionError(f"{what} did not happen")


def named_by(reference):
    return reference.read_text().strip() if reference.is_file() else ""


def measure(pairs):
    home = harness.Home.make()
    agentvm = harness.Agentvm(home)
    committers = []
    try:
        agentvm.run("image", "build", timeout=1500)
        # Two sandboxes, one for each side: the mode of one would fetch the commits of the other.
        for name, mode in (("live", "auto-commit"), ("hand", "manual")):
            repository = harness.make_repository(home.folder / name)
            agentvm.start(repository, name, "--sync-mode", mode, "--memory", "1G", "--vcpus", "1")
            committers.append(Committer(agentvm, name))
        live, hand = committers
        reference = home.folder / "live" / ".git" / "refs" / "agentvm" / "live" / "main"
        inside = home.state / "sandboxes" / "live" / "workspace" / ".git" / "refs" / "heads" / "main"
        agentvm.run("sync", "live")

        manager = agentvm.manager_pid()

        def product():
            time.sleep(QUIET)
            before = named_by(inside)
            live.begin()
            wait_until(lambda: named_by(inside) not in ("", before), "the commit in the guest")
            commit = named_by(inside)
            result = timed(lambda: wait_until(lambda: named_by(reference) == commit, "its arrival"), manager, SETTLE)
            assert live.end() == commit
            return result

        def by_hand():
            agentvm.run("exec", "hand", "--", "true")
            agentvm.run("sync", "hand")

        def peer():
            hand.commit()
            time.sleep(QUIET)
            return timed(by_hand, manager, SETTLE)

        figure = Figure("auto-commit", "a commit in the guest, until the host has its reference", "agentvm exec -- true && agentvm sync of one commit", 2.0)
        figure.measure(product, peer, pairs)
        return figure
    finally:
        for committer in committers:
            committer.close()
        for name in agentvm.sandboxes():
            agentvm.run("destroy", name, "--force")
        agentvm.run("manager", "stop", code=None)
        harness.remove(home)
