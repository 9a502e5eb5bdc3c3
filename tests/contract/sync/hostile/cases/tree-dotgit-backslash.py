"""'a\\.git': Windows takes the backslash for a separator.

Reference: CVE-2019-1354"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", "a\\.git", oid("blob", b"x")))
