"""A length that is no hexadecimal number.

Reference: gitprotocol-common(5), pkt-line"""

EXPECT = r"does not speak git's protocol"


def serve(server):
    server.endless(b"-001x")
