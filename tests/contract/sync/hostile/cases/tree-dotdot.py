"""An entry '..'.

Reference: git-fsck(1), hasDotdot"""

from wire import tree_entry, oid

EXPECT = r"named '\.\.'"


def serve(server):
    server.offer_tree(tree_entry("100644", "..", oid("blob", b"x")))
