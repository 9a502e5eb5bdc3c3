"""Sees each change of a sandbox's record as it happens, and can stop or kill the manager right there.

The record is replaced by a rename, which inotify tells in order. The manager is stopped at each change, and what is recorded is read while it
stands still. Two changes that follow each other faster than the signal arrives count as two, and have the second's content.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import select
import signal
import struct
import subprocess
import time

import harness

MOVED_FROM, MOVED_TO = 0x40, 0x80
EVENT = struct.Struct("iIII")
LIBC = ctypes.CDLL(None, use_errno=True)


class Watch:
    """The changes of one record, one after the other, also of a sandbox that is made or removed meanwhile."""

    def __init__(self, home, name):
        self.parent = home.state / "sandboxes"
        self.folder = self.parent / name
        self.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.descriptor = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self.descriptor >= 0, os.strerror(ctypes.get_errno())
        self.add(self.parent)
        if self.folder.exists():
            self.add(self.folder)
        self.last = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)

    def add(self, folder):
        assert LIBC.inotify_add_watch(self.descriptor, os.fsencode(folder), MOVED_FROM | MOVED_TO) >= 0, os.strerror(ctypes.get_errno())

    def read(self):
        try:
            return json.loads((self.folder / "record.json").read_text())
        except FileNotFoundError:
            return None

    def wait(self, seconds):
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def changes(self):
        """What changed since the last time, a line for each."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 65536):
                while data:
                    _, mask, _, size = EVENT.unpack_from(data)
                    name = os.fsdecode(data[EVENT.size:EVENT.size + size].rstrip(b"\0"))
                    data = data[EVENT.size + size:]
                    if name == self.folder.name and mask & MOVED_TO:
                        self.add(self.folder)
                    count += name == self.folder.name or (name == "record.json" and bool(mask & MOVED_TO))
        return [self.described()] * count if count else []

    def described(self):
        """What the record says now that it did not say before."""
        before, self.last = self.last, self.read()
        if self.last is None:
            return "gone"
        if before is None:
            return f"made, state={self.last['state']}"
        changed = [key for key in self.last if self.last[key] != before.get(key)]
        return ", ".join(f"{key}={self.last[key]}" if key in ("state", "teardown") else key for key in changed) or "the same again"


@dataclasses.dataclass
class Ended:
    """How a command ended whose manager was killed at a change of the record, or was not, because there were not so many."""

    code: int
    said: str
    steps: list
    killed: bool


def send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def run_and_kill(agentvm, name, where, *words):
    """Runs a command; its manager is killed right after a change of the sandbox's record: the nth, the first that has this text, or none."""

    def is_there(steps):
        return any(where in step for step in steps) if isinstance(where, str) else where is not None and len(steps) >= where

    agentvm.sandboxes()  # there is a manager, and what it finds when it starts is settled
    manager = agentvm.manager_pid()
    steps, killed = [], False
    with Watch(agentvm.home, name) as watch:
        with agentvm.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
            end = time.monotonic() + harness.START_SECONDS
            try:
                while client.poll() is None:
                    assert time.monotonic() < end, f"{words[0]} does not end; {steps}"
                    if not watch.wait(0.1):
                        continue
                    if not killed:  # the next one may work for the same client, and is left alone
                        send(manager, signal.SIGSTOP)
                    new = watch.changes()
                    steps += new
                    if new and not killed and is_there(steps):
                        killed = True
                        send(manager, signal.SIGKILL)
                    elif not killed:
                        send(manager, signal.SIGCONT)
            finally:
                if not killed:
                    send(manager, signal.SIGCONT)
            said = client.stderr.read().decode(errors="replace")
        steps += watch.changes()
    if killed:
        harness.eventually(lambda: not os.path.exists(f"/proc/{manager}"), 20, "the manager is gone")
    print(f"{words[0]}: {'killed at' if killed else 'not killed at'} {where}; exit {client.returncode}: {said.strip()[-300:]!r}")
    print(f"  {'; '.join(steps)}")
    return Ended(client.returncode, said, steps, killed)
