"""A thin pack against an object that neither side has.

Reference: gitformat-pack(5), thin packs"""

from wire import REF_DELTA, delta, entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    server.offer(make_pack([entry(REF_DELTA, delta(1, 1, b"\x90\x01"), bytes.fromhex("d" * 40))]))
