"""No pack.

Reference: gitformat-pack(5)"""

EXPECT = r"no pack"


def serve(server):
    server.offer(b"KCAP" + bytes(40))
