"""A date beyond any calendar.

Reference: git-fsck(1), badDateOverflow"""

from wire import COMMIT, TREE, commit, oid

EXPECT = r"date out of range"


def serve(server):
    made = commit(oid("tree", b""), [server.tip]).replace(b"1700000000", b"9" * 30)
    server.offer_objects([(COMMIT, made), (TREE, b"")], oid("commit", made))
