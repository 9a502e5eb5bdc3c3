"""Acknowledgements without the NAK that ends them.

Reference: gitprotocol-pack(5), packfile negotiation; CWE-674, CWE-835"""

from wire import MISSING, pkt

EXPECT = r"broke off the negotiation"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.endless(pkt(f"ACK {MISSING} ready\n"))
