"""A chain of deltas deeper than git makes them.

Reference: pack.depth in git-config(1): at most 4095; CWE-674"""

from wire import BLOB, OFS_DELTA, delta, entry, make_pack, offset

EXPECT = r"chain of more than 4095 deltas"


def serve(server):
    entries, unchanged = [entry(BLOB, b"0123456789abcdef")], delta(16, 16, b"\x90\x10")
    for _ in range(4200):
        entries.append(entry(OFS_DELTA, unchanged, offset(len(entries[-1]))))
    server.offer(make_pack(entries))
