"""'.git . .': NTFS drops dots and blanks at the end.

Reference: CVE-2019-1352"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", ".git . .", oid("blob", b"x")))
