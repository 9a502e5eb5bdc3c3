"""The connection ends in the middle of the pack.

Reference: gitprotocol-pack(5), packfile data"""

from wire import BLOB, MISSING, band, entry, make_pack

EXPECT = r"ended the connection early"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.send(band(1, make_pack([entry(BLOB, b"x")])[:20]))
