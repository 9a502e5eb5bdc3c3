"""An address that a command line takes for an option.

Reference: CVE-2018-17456"""

from wire import oid, tree_entry

EXPECT = r"looks like an option"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = a\n\turl = -u./payload\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
