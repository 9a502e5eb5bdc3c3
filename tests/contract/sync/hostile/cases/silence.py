"""Nothing at all.

Reference: CWE-400"""

EXPECT = r"in time|took too long"
LIMITS = {"seconds": 3}


def serve(server):
    server.read_pkt()
