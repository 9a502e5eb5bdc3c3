"""An object that says it has 2^62 bytes.

Reference: CVE-2016-2315, CVE-2016-2324 (sizes that overflow)"""

from wire import BLOB, entry, make_pack

EXPECT = r"the pack|no pack|pack|memory|larger than"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x", size=1 << 62)]))
