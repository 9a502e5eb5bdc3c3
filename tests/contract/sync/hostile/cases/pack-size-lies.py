"""The header says another size than the data has.

Reference: gitformat-pack(5); CVE-2018-8098, CVE-2018-8099 (libgit2 readers)"""

from wire import BLOB, entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(BLOB, b"x" * 100, size=7)]))
