"""An address without a host: a credential helper answers for any.

Reference: CVE-2020-11008"""

from wire import oid, tree_entry

EXPECT = r"without a host"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = a\n\turl = https:///evil.example/x.git\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
