"""Figures `cold-start`: a new sandbox's start to the result of its first exec, beside the raw boot of the same machine to its first ssh;
and `warm-start`: the same from a template, beside a cold one."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import harness  # noqa: E402
from figures import Figure  # noqa: E402
from raw_guest import RawGuest  # noqa: E402


class Product:
    """New sandboxes of one repository, one after the other."""

    def __init__(self, agentvm, repository):
        self.agentvm, self.repository, self.count = agentvm, repository, 0

    def start(self, *options):
        """Seconds until the first exec of a new sandbox has its result."""
        self.count += 1
        name = f"new-{self.count}"
        begin = time.monotonic()
        self.agentvm.start(self.repository, name, *options)
        self.agentvm.run("exec", name, "--", "true")
        seconds = time.monotonic() - begin
        self.agentvm.run("destroy", name, "--force")
        return seconds


def measure(pairs):
    home = harness.Home.make()
    agentvm = harness.Agentvm(home)
    raw = None
    try:
        agentvm.run("image", "build", timeout=1500)
        repository = harness.make_repository(home.folder / "project")
        agentvm.start(repository, "first")  # also tries the accelerator and lets libvirt probe QEMU, once per host boot
        domain = home.folder / "domain.xml"
        domain.write_bytes((home.state / "sandboxes" / "first" / "domain.xml").read_bytes())
        agentvm.run("destroy", "first", "--force")
        raw = RawGuest(domain)
        figure = Figure("cold-start", "agentvm start && agentvm exec -- true", "raw QEMU, polled with ssh", 2.0)
        figure.measure(Product(agentvm, repository).start, raw.boot, pairs)
        return figure
    finally:
        if raw:
            raw.close()
        agentvm.run("manager", "stop", code=None)
        harness.remove(home)


def measure_warm(pairs):
    home = harness.Home.make()
    agentvm = harness.Agentvm(home)
    try:
        repository = harness.make_repository(home.folder / "project")
        agentvm.run("image", "build", "--template", cwd=repository, timeout=1500)
        product = Product(agentvm, repository)
        figure = Figure("warm-start", "agentvm start --warm && agentvm exec -- true", "the same with --cold", 0.3)
        figure.measure(lambda: product.start("--warm"), lambda: product.start("--cold"), pairs)
        return figure
    finally:
        agentvm.run("manager", "stop", code=None)
        harness.remove(home)
