"""Peeled tags are passed over, but not for ever.

Reference: gitprotocol-pack(5), peeled references; CWE-400"""

from wire import MISSING, pkt

EXPECT = r"sync\.limits\.(bytes|seconds)|in time"
LIMITS = {"bytes": 4194304}


def serve(server):
    server.endless(pkt(MISSING + " refs/tags/x^{}\n"))
