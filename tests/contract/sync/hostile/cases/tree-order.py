"""Entries out of order hide one from a search.

Reference: git-fsck(1), treeNotSorted"""

from wire import tree_entry, oid

EXPECT = r"out of order"


def serve(server):
    server.offer_tree(tree_entry("100644", "b", oid("blob", b"x")) + tree_entry("100644", "a", oid("blob", b"x")))
