"""A submodule's name that leaves .git/modules.

Reference: CVE-2018-11235"""

from wire import oid, tree_entry

EXPECT = r"outside of its folder"


def serve(server):
    text = b"[submodule \"../../hooks\"]\n\tpath = x\n\turl = y\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
