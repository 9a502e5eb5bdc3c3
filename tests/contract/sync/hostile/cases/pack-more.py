"""More objects sent than announced.

Reference: gitformat-pack(5)"""

from wire import BLOB, entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x"), entry(BLOB, b"y")], announced=1))
