"""An update command.

Reference: CVE-2019-19604"""

from wire import oid, tree_entry

EXPECT = r"by running a command"


def serve(server):
    text = b"[submodule \"a\"]\n\tpath = a\n\turl = x\n\tupdate = !sh payload\n"
    server.offer_tree(tree_entry("100644", ".gitmodules", oid("blob", text)), [text])
