"""A delimiter of protocol v2, where v0 was asked for.

Reference: gitprotocol-v2(5), packet-line framing"""

EXPECT = r"does not speak git's protocol"


def serve(server):
    server.send(b"0001")
