"""Remarks on the side band, for ever.

Reference: gitprotocol-common(5), side-band-64k; CWE-835"""

from wire import MISSING, band

EXPECT = r"endless remarks"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.endless(band(2, b"." * 9000))
