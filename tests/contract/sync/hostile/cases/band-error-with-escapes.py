"""The same on the side band of errors, after the negotiation.

Reference: CVE-2024-52005"""

from wire import MISSING, band

EXPECT = r"\\x1b\[2J"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.send(band(3, b"\x1b[2J\x1b[Hfatal"))
