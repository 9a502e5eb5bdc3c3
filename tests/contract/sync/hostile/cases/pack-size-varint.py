"""A size field that never ends.

Reference: CVE-2018-8099; gitformat-pack(5)"""

from wire import make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([b"\xb0" + b"\xff" * 200 + b"\x01"]))
