"""'.git<U+FEFF>': HFS+ ignores the character.

Reference: CVE-2014-9390"""

from wire import tree_entry, oid

EXPECT = r"take for '\.git'"


def serve(server):
    server.offer_tree(tree_entry("100644", ".git\ufeff", oid("blob", b"x")))
