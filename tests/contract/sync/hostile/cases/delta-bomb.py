"""64 KiB of copies of 64 KiB: 4 GiB in memory.

Reference: CWE-409; CVE-2016-2324"""

from wire import BLOB, REF_DELTA, delta, entry, make_pack, oid

EXPECT = r"the pack|no pack|pack|memory"
LIMITS = {"memory": 268435456}


def serve(server):
    base = bytes(65536)
    change = delta(65536, 65536 << 16, b"\x80" * 65536)
    server.offer(make_pack([entry(BLOB, base), entry(REF_DELTA, change, bytes.fromhex(oid("blob", base)))]))
