"""What a run costs the processor, beside the clock on the wall: of the client (or the peer's program) with all that it waits for, of the manager itself, and
of the children that the manager waited for (agentvm-git and the host's git). What the guest's machine uses is in neither, as both sides ask the same of it."""

import os
import pathlib
import resource
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Timed(float):
    """Seconds on the wall; `cpu`: seconds of the processor, by who used them."""

    cpu: dict

    def __new__(cls, wall, cpu):
        value = super().__new__(cls, wall)
        value.cpu = cpu
        return value


def _used(manager):
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {"client": own.ru_utime + own.ru_stime}
    if manager:
        fields = pathlib.Path(f"/proc/{manager}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        user, system, waited_user, waited_system = (int(field) / TICKS for field in fields[11:15])
        used |= {"manager": user + system, "children": waited_user + waited_system}
    return used


def timed(run, manager=None, settle=0):
    """Runs it; `manager`: the process to watch beside. `settle`: seconds after the clock stops in which what was begun still counts as used."""
    before = _used(manager)
    begin = time.monotonic()
    run()
    wall = time.monotonic() - begin
    time.sleep(settle)
    after = _used(manager)
    return Timed(wall, {who: after[who] - before[who] for who in after})
