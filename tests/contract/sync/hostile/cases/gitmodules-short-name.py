"""'GITMOD~1' as a symbolic link, NTFS's short name.

Reference: CVE-2018-11235, CVE-2019-1352"""

from wire import tree_entry, oid

EXPECT = r"symbolic link for .gitmodules"


def serve(server):
    server.offer_tree(tree_entry("120000", "GITMOD~1", oid("blob", b"x")))
