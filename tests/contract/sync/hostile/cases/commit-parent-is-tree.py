"""A parent that is no commit.

Reference: git-fsck(1), broken links"""

from wire import COMMIT, TREE, commit, oid

EXPECT = r"two different kinds|must be"


def serve(server):
    made = commit(oid("tree", b""), [oid("tree", b"")])
    server.offer_objects([(COMMIT, made), (TREE, b"")], oid("commit", made))
