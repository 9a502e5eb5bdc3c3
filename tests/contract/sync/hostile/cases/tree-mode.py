"""A set-user-id file.

Reference: git-fsck(1), badFilemode"""

from wire import tree_entry, oid

EXPECT = r"the mode 104755"


def serve(server):
    server.offer_tree(tree_entry("104755", "a", oid("blob", b"x")))
