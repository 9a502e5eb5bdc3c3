"""Two deltas, each the base of the other.

Reference: git's t5309-pack-delta-cycles"""

from wire import REF_DELTA, delta, entry, make_pack

EXPECT = r"the pack|no pack|pack"


def serve(server):
    change = delta(1, 1, b"\x90\x01")
    server.offer(make_pack([entry(REF_DELTA, change, bytes.fromhex("b" * 40)), entry(REF_DELTA, change, bytes.fromhex("c" * 40))]))
