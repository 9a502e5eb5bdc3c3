"""The pack has something else than the tip.

Reference: gitprotocol-pack(5), packfile data"""

from wire import BLOB, entry, make_pack

REJECTED = r"is missing"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x")]))
