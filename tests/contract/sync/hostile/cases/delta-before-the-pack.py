"""An offset delta whose base lies before the pack.

Reference: gitformat-pack(5), OBJ_OFS_DELTA; CVE-2018-10887"""

from wire import BLOB, OFS_DELTA, delta, entry, make_pack, offset

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x"), entry(OFS_DELTA, delta(1, 1, b"\x90\x01"), offset(1 << 40))]))
