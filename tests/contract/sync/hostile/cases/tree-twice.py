"""A link and a folder of one name: the folder is written through the link.

Reference: git-fsck(1), duplicateEntries; CVE-2021-21300"""

from wire import tree_entry, oid

EXPECT = r"same name|out of order"


def serve(server):
    server.offer_tree(tree_entry("120000", "a", oid("blob", b"x")) + tree_entry("40000", "a", oid("tree", b"")))
