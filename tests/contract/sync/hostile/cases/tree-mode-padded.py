"""A mode with a zero in front: another id for the same tree.

Reference: git-fsck(1), zeroPaddedFilemode"""

from wire import tree_entry, oid

EXPECT = r"zero-padded"


def serve(server):
    server.offer_tree(tree_entry("0100644", "a", oid("blob", b"x")))
