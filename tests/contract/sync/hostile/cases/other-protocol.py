"""An answer in protocol version 1.

Reference: gitprotocol-pack(5), version 1"""

from wire import pkt

EXPECT = r"another protocol version"


def serve(server):
    server.send(pkt("version 1\n"))
