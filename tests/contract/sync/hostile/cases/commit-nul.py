"""A NUL byte in a commit: readers disagree where it ends.

Reference: git-fsck(1), nulInCommit"""

from wire import COMMIT, TREE, commit, oid

EXPECT = r"NUL"


def serve(server):
    made = commit(oid("tree", b""), [server.tip]) + b"\0hidden"
    server.offer_objects([(COMMIT, made), (TREE, b"")], oid("commit", made))
