"""A packet longer than any may be.

Reference: gitprotocol-common(5), pkt-line: at most 65520 bytes"""

EXPECT = r"does not speak git's protocol"


def serve(server):
    server.send(b"fff5" + b"x" * 70000)
