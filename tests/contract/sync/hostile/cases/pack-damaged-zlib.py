"""Compressed data that is none.

Reference: gitformat-pack(5); CVE-2022-37434 (inflate)"""

from wire import BLOB, make_pack, size_header

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([size_header(BLOB, 50) + b"\x78\x01" + b"\xff" * 60]))
