"""One line with thousands of capabilities, and a HEAD that points outside.

Reference: gitprotocol-pack(5), capabilities; CVE-2021-21300 shows what a followed link does"""

from wire import BLOB, MISSING, band, entry, make_pack

REJECTED = r"is missing"


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")], "side-band-64k symref=HEAD:refs/heads/../../hooks " + " ".join(f"c{n}" for n in range(9000)))
    server.answer()
    server.send(band(1, make_pack([entry(BLOB, b"x")])) + b"0000")
