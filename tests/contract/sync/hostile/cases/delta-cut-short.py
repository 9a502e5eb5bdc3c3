"""A delta whose operations end in the middle.

Reference: CVE-2018-10887"""

from wire import BLOB, REF_DELTA, delta, entry, make_pack, oid

EXPECT = r"the pack|no pack|pack"


def serve(server):
    base = b"x" * 100
    server.offer(make_pack([entry(BLOB, base), entry(REF_DELTA, delta(100, 50, b"\xff"), bytes.fromhex(oid("blob", base)))]))
