"""The same with names of every length, so that no two paths to a folder are equally long.

Reference: 'Exploding git repositories' (Kate Murphy, 2017); CWE-407"""

from wire import BLOB, COMMIT, TREE, commit, oid, tree_entry

REJECTED = r"folders that repeat themselves"


def serve(server):
    inner, objects = b"", [(BLOB, b"x")]
    for level in range(12):
        child = (("100644", oid("blob", b"x")) if level == 0 else ("40000", oid("tree", inner)))
        inner = b"".join(tree_entry(child[0], "d" * number, child[1]) for number in range(1, 11))
        objects.append((TREE, inner))
    made = commit(oid("tree", inner), [server.tip])
    server.offer_objects(objects + [(COMMIT, made)], oid("commit", made))
