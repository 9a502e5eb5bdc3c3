"""A folder that is a file.

Reference: git-fsck(1), broken links"""

from wire import tree_entry, oid

EXPECT = r"where a tree must be"


def serve(server):
    server.offer_tree(tree_entry("40000", "a", oid("blob", b"x")))
