"""A .gitattributes line of megabytes.

Reference: CVE-2022-23521"""

from wire import oid, tree_entry

EXPECT = r"line longer than 2048"


def serve(server):
    text = b"* " + b"a" * 3000000
    server.offer_tree(tree_entry("100644", ".gitattributes", oid("blob", text)), [text])
