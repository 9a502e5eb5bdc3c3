"""An offset delta whose base begins in the middle of another object.

Reference: gitformat-pack(5), OBJ_OFS_DELTA"""

from wire import BLOB, OFS_DELTA, delta, entry, make_pack, offset

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(BLOB, bytes(500), level=0), entry(OFS_DELTA, delta(1, 1, b"\x90\x01"), offset(100))]))
