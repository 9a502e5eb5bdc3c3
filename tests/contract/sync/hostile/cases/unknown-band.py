"""A side band that does not exist.

Reference: gitprotocol-common(5), side-band-64k"""

from wire import MISSING, band

EXPECT = r"unknown side band"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.send(band(9, b"x"))
