"""'.GIT' on a file system that folds case.

Reference: CVE-2014-9390"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", ".GIT", oid("blob", b"x")))
