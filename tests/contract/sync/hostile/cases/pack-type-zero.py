"""Object types 0 and 5, which are reserved.

Reference: gitformat-pack(5)"""

from wire import entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(0, b"x"), entry(5, b"x")]))
