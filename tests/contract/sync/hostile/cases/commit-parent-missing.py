"""History with a hole.

Reference: git-fsck(1), missing objects"""

from wire import COMMIT, TREE, commit, oid

EXPECT = r"was not sent"


def serve(server):
    made = commit(oid("tree", b""), ["e" * 40])
    server.offer_objects([(COMMIT, made), (TREE, b"")], oid("commit", made))
