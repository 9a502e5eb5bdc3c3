"""A file that was not sent.

Reference: git-fsck(1), missing objects; CVE-2019-1387 began with unchecked submodules"""

from wire import tree_entry, oid

EXPECT = r"was not sent"


def serve(server):
    server.offer_tree(tree_entry("100644", "a", "d" * 40))
