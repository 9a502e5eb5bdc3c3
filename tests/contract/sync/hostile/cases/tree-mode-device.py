"""A device node.

Reference: git-fsck(1), badFilemode"""

from wire import tree_entry, oid

EXPECT = r"the mode 20644"


def serve(server):
    server.offer_tree(tree_entry("20644", "a", oid("blob", b"x")))
