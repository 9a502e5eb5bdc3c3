"""History cut off: nothing could be proven.

Reference: gitprotocol-pack(5), shallow lines"""

from wire import MISSING, pkt

EXPECT = r"shallow"


def serve(server):
    server.send(pkt("shallow " + MISSING + "\n"))
