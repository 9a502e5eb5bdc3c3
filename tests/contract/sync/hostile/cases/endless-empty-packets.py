"""Packets that carry nothing, as upload-pack sends them to keep a connection alive.

Reference: uploadpack.keepAlive in git-config(1); CWE-835"""

from wire import MISSING, band

EXPECT = r"endless empty packets"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.endless(band(1, b""))
