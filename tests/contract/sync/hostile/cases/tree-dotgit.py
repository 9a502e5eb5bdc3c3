"""An entry '.git': files for the repository's own folder.

Reference: CVE-2014-9390"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", ".git", oid("blob", b"x")))
