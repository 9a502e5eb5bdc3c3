#!/usr/bin/env python3
"""Writes down every program that a command and all that descends from it start: trace_exec.py LOG -- COMMAND...

By the kernel's own word, not by a library that a static or cleaned-up process would not load: a seccomp filter reports execve and execveat to
us, we note it (a line of JSON) and let it go on. The filter is inherited, also by daemons; we end when the last process under it has.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys

EXECVE, EXECVEAT, SECCOMP = {"x86_64": (59, 322, 317), "aarch64": (221, 281, 277)}[os.uname().machine]
ALLOW, NOTIFY, CONTINUE = 0x7FFF0000, 0x7FC00000, 1
SET_MODE_FILTER, NEW_LISTENER = 1, 8
RECEIVE, SEND = 0xC0502100, 0xC0182101
NOTICE = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; system call, architecture, instruction, arguments
ANSWER = struct.Struct("=QqiI")
ARGUMENTS, BYTES = 64, 4096


def install():
    """The filter on this process and what it becomes; the descriptor that tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = [(0x20, 0, 0, 0), (0x15, 2, 0, EXECVE), (0x15, 1, 0, EXECVEAT), (0x06, 0, 0, ALLOW), (0x06, 0, 0, NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    if os.geteuid() != 0 and libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        sys.exit("trace_exec: no_new_privs")
    listener = libc.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, program)
    if listener < 0:
        sys.exit(f"trace_exec: seccomp: {os.strerror(ctypes.get_errno())}")
    return listener


def text_at(memory, address):
    """A string of the other process; what cannot be read is empty."""
    out = b""
    while address and b"\0" not in out and len(out) < BYTES:
        try:  # never across a page at once: the next one may be absent
            piece = os.pread(memory, 4096 - (address + len(out)) % 4096, address + len(out))
        except OSError:
            break
        if not piece:
            break
        out += piece
    return out.split(b"\0")[0].decode(errors="backslashreplace")


def describe(pid, number, arguments):
    link = f"/proc/{pid}"
    memory = os.open(f"{link}/mem", os.O_RDONLY)
    try:
        path, vector = text_at(memory, arguments[number == EXECVEAT]), arguments[1 + (number == EXECVEAT)]
        words = []
        for index in range(ARGUMENTS):
            pointer = int.from_bytes(os.pread(memory, 8, vector + 8 * index), "little")
            if not pointer:
                break
            words.append(text_at(memory, pointer))
    finally:
        os.close(memory)
    if number == EXECVEAT and not path:
        path = os.readlink(f"{link}/fd/{arguments[0]}")
    cwd = os.readlink(f"{link}/cwd")
    path = os.path.join(cwd, path)
    if not os.path.exists(f"{link}/root{path}"):
        return None  # a try along PATH
    return {"pid": pid, "path": path, "argv": words, "cwd": cwd, "by": os.readlink(f"{link}/exe")}


def listen(listener, log):
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        events = poller.poll()[0][1]
        if not events & select.POLLIN:
            return  # nobody is left under the filter
        notice = bytearray(NOTICE.size)
        try:
            fcntl.ioctl(listener, RECEIVE, notice)
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.EINTR):  # it is gone already
                continue
            raise
        cookie, pid, _, number, _, _, *arguments = NOTICE.unpack(bytes(notice))
        try:
            entry = describe(pid, number, arguments)
        except OSError as problem:
            entry = {"pid": pid, "path": f"? {problem}", "argv": [], "cwd": "?", "by": "?"}
        if entry:
            os.write(log, json.dumps(entry).encode() + b"\n")
        try:
            fcntl.ioctl(listener, SEND, ANSWER.pack(cookie, 0, 0, CONTINUE))
        except OSError as problem:
            if problem.errno != errno.ENOENT:
                raise


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(__doc__)
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        theirs.close()
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        if not ancillary:
            os._exit(1)
        listener = array.array("i", ancillary[0][2])[0]
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        ours.close()
        listen(listener, log)
        os._exit(0)
    ours.close()
    listener = install()
    theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    theirs.close()
    os.close(listener)
    os.execvp(sys.argv[3], sys.argv[3:])


main()
