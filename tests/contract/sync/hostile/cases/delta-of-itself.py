"""An offset delta at distance 0.

Reference: gitformat-pack(5), OBJ_OFS_DELTA; CVE-2018-10888 (libgit2 deltas)"""

from wire import OFS_DELTA, delta, entry, make_pack, offset

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(OFS_DELTA, delta(1, 1, b"\x90\x01"), offset(0))]))
