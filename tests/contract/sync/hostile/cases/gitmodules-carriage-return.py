"""A path that ends in a quoted carriage return, which git once lost when it wrote the path.

Reference: CVE-2025-48384"""

from wire import oid, tree_entry

EXPECT = r"control character"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = \"a\r\"\n\turl = x\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
