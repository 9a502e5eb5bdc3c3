"""An entry 'a/b': a path through a link made before.

Reference: git-fsck(1), fullPathname; CVE-2021-21300"""

from wire import tree_entry, oid

EXPECT = r"'/' in its name"


def serve(server):
    server.offer_tree(tree_entry("100644", "a/b", oid("blob", b"x")))
