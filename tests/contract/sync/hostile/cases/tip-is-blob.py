"""The tip is there, but it is a file.

Reference: gitprotocol-pack(5), packfile data"""

from wire import BLOB, entry, make_pack, oid

REJECTED = r"is a blob"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x")]), oid("blob", b"x"))
