"""An entry without a name.

Reference: git-fsck(1), emptyName"""

from wire import tree_entry, oid

EXPECT = r"without a name"


def serve(server):
    server.offer_tree(tree_entry("100644", "", oid("blob", b"x")))
