"""An entry with the null id.

Reference: git-fsck(1), nullSha1"""

from wire import tree_entry, oid

EXPECT = r"null object id"


def serve(server):
    server.offer_tree(tree_entry("100644", "a", "0" * 40))
