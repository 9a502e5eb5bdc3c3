"""A file of 8 GiB zeros in 8 MiB of pack.

Reference: CWE-409"""

import struct
import zlib

from wire import BLOB, MISSING, band, size_header

EXPECT = r"unpack to more|in time|took too long|the pack"
LIMITS = {"seconds": 3}


def serve(server):
    packer = zlib.compressobj(9)
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    server.send(band(1, b"PACK" + struct.pack(">II", 2, 1) + size_header(BLOB, 8 << 30)))
    zeros = bytes(1 << 20)
    for _ in range(8 << 10):
        data = packer.compress(zeros)
        if data:
            server.send(band(1, data))
