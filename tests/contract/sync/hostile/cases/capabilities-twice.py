"""A second line with capabilities.

Reference: gitprotocol-pack(5), capabilities"""

from wire import MISSING, pkt

EXPECT = r"capabilities twice"


def serve(server):
    server.send(pkt(MISSING + " refs/heads/a\0side-band-64k\n") + pkt(MISSING + " refs/heads/b\0side-band-64k\n") + b"0000")
