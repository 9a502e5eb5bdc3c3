"""Figure `cold-start`: a new sandbox's start to the result of its first exec, beside the raw boot of the same machine to its first ssh."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import harness  # noqa: E402
from figures import Figure  # noqa: E402
from raw_guest import RawGuest  # noqa: E402


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
        count = 0

        def product():
            nonlocal count
            count += 1
            name = f"cold-{count}"
            begin = time.monotonic()
            agentvm.start(repository, name)
            agentvm.run("exec", name, "--", "true")
            seconds = time.monotonic() - begin
            agentvm.run("destroy", name, "--force")
            return seconds

        figure = Figure("cold-start", "agentvm start && agentvm exec -- true", "raw QEMU, polled with ssh", 2.0)
        figure.measure(product, raw.boot, pairs)
        return figure
    finally:
        if raw:
            raw.close()
        agentvm.run("manager", "stop", code=None)
        harness.remove(home)
