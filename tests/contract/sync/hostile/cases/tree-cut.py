"""A tree that ends in the middle of an entry.

Reference: git-fsck(1), badTree"""

from wire import tree_entry, oid

EXPECT = r"well-formed"


def serve(server):
    server.offer_tree(tree_entry("100644", "a", oid("blob", b"x"))[:-3])
