"""The end of the pack is missing.

Reference: gitformat-pack(5)"""

from wire import BLOB, entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(BLOB, bytes(100))])[:-30])
