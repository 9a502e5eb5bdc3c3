"""An address whose transport is a command.

Reference: CVE-2015-7545"""

from wire import oid, tree_entry

EXPECT = r"runs a command"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = a\n\turl = ext::sh -c payload\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
