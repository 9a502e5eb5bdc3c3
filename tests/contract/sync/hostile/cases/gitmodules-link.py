"""'.gitmodules' as a symbolic link: read from outside.

Reference: CVE-2018-11235 and its follow-up, gitmodulesSymlink"""

from wire import tree_entry, oid

EXPECT = r"symbolic link for .gitmodules"


def serve(server):
    server.offer_tree(tree_entry("120000", ".gitmodules", oid("blob", b"x")))
