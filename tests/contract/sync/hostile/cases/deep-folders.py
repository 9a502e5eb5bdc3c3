"""Folders nested 16,000 deep, in steps that each look harmless: readers that recurse run out of stack.

Reference: core.maxTreeDepth in git-config(1); CWE-674"""

from wire import BLOB, COMMIT, TREE, commit, oid, tree_entry

REJECTED = r"longer than 4095"
LIMITS = {"objects": 100000}


def serve(server):
    objects, inner, commits, parent = [(BLOB, b"x")], tree_entry("100644", "f", oid("blob", b"x")), [], server.tip
    objects.append((TREE, inner))
    for step in range(8):
        for _ in range(2000):
            inner = tree_entry("40000", "a", oid("tree", inner))
            objects.append((TREE, inner))
        made = commit(oid("tree", inner), [parent], str(step))
        parent = oid("commit", made)
        objects.append((COMMIT, made))
    server.offer_objects(objects, parent)
