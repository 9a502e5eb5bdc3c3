"""A chain of 2,000 deltas, each of 16 KiB: recursion, or all of it in memory at once.

Reference: CWE-674; pack.depth in git-config(1): at most 4095"""

import struct

from wire import BLOB, OFS_DELTA, delta, entry, make_pack, offset

REJECTED = r"is missing|the pack|no pack|pack"
LIMITS = {"memory": 268435456, "seconds": 8}


def serve(server):
    data, entries = bytearray(16384), []
    entries.append(entry(BLOB, bytes(data)))
    for number in range(2000):
        change = delta(16384, 16384, b"\x04" + struct.pack(">I", number + 1) + b"\xb1\x04\xfc\x3f")
        entries.append(entry(OFS_DELTA, change, offset(len(entries[-1]))))
    server.offer(make_pack(entries))
