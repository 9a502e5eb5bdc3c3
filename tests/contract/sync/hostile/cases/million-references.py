"""A reference advertisement without end.

Reference: gitprotocol-pack(5), reference discovery; CWE-400"""

from wire import CAPABILITIES, MISSING, pkt

EXPECT = r"sync\.limits\.refs"


def serve(server):
    server.send(pkt(MISSING + " refs/heads/b\0" + CAPABILITIES + "\n"))
    for batch in range(1000):
        server.send(b"".join(pkt(f"{MISSING} refs/heads/b{batch * 1000 + number}\n") for number in range(1000)))
    server.send(b"0000")
