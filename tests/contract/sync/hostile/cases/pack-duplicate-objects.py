"""One object twice: an index of it has confused readers.

Reference: git's t5308-pack-detect-duplicates"""

from wire import BLOB, COMMIT, TREE, commit, entry, make_pack, oid

EXPECT = r"the pack|no pack|pack|twice|duplicate"


def serve(server):
    made = commit(oid("tree", b""), [server.tip])
    server.offer(make_pack([entry(COMMIT, made), entry(TREE, b""), entry(BLOB, b"x"), entry(BLOB, b"x")]), oid("commit", made))
