"""'GIT~1', the short name that NTFS gives '.git'.

Reference: CVE-2014-9390, CVE-2019-1352"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", "GIT~1", oid("blob", b"x")))
