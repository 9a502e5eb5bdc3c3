"""Two author lines.

Reference: git-fsck(1), multipleAuthors"""

from wire import COMMIT, IDENT, TREE, commit, oid

EXPECT = r"more than one author"


def serve(server):
    made = commit(oid("tree", b""), [server.tip]).replace(b"author ", b"author " + IDENT.encode() + b"\nauthor ", 1)
    server.offer_objects([(COMMIT, made), (TREE, b"")], oid("commit", made))
