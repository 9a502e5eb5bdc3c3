"""A delta that copies what lies behind its base.

Reference: CVE-2018-10888, CVE-2018-10887 (libgit2 git_delta_apply)"""

from wire import BLOB, REF_DELTA, delta, entry, make_pack, oid

EXPECT = r"the pack|no pack|pack"


def serve(server):
    base = b"x" * 100
    server.offer(make_pack([entry(BLOB, base), entry(REF_DELTA, delta(100, 60000, b"\xb1\x50\x60\xea"), bytes.fromhex(oid("blob", base)))]))
