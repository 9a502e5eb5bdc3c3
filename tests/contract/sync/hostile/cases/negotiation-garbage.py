"""An answer that is none.

Reference: gitprotocol-pack(5), packfile negotiation"""

from wire import MISSING

EXPECT = r"answered the negotiation"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer("MAYBE\n")
