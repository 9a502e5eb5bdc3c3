"""usage: without_namespaces.py COMMAND...   Runs it where no user namespace can be made, as `sysctl user.max_user_namespaces=0` would: root of a
namespace that maps every id to itself may forbid it there, and nobody else on the host notices. Needs root."""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
ALL = "0 0 4294967295\n"

libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
parent = os.getpid()
if os.fork() == 0:  # who maps must be outside
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{parent}/{name}", "w", encoding="ascii") as file:
            file.write(ALL)
    os.write(go[1], b"x")
    os._exit(0)
if libc.unshare(CLONE_NEWUSER):
    raise OSError(ctypes.get_errno(), "unshare")
os.write(ready[1], b"x")
os.read(go[0], 1)
os.wait()
with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
    file.write("0\n")
os.execvp(sys.argv[1], sys.argv[1:])
