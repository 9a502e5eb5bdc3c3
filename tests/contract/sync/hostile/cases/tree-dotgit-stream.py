"""'.git::$INDEX_ALLOCATION', a stream of NTFS.

Reference: CVE-2019-1352"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", ".git::$INDEX_ALLOCATION", oid("blob", b"x")))
