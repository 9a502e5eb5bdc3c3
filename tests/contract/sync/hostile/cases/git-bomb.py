"""Ten folders of ten folders of ten ... files: ten milliards of paths from a dozen objects. Sound as objects; nobody may walk it
path by path.

Reference: 'Exploding git repositories' (Kate Murphy, 2017)"""

from wire import BLOB, COMMIT, TREE, commit, oid, tree_entry

REJECTED = r"folders that repeat themselves"


def serve(server):
    inner, objects = b"", [(BLOB, b"x")]
    for level in range(10):
        child = (("100644", oid("blob", b"x")) if level == 0 else ("40000", oid("tree", inner)))
        inner = b"".join(tree_entry(child[0], f"d{number}", child[1]) for number in range(10))
        objects.append((TREE, inner))
    made = commit(oid("tree", inner), [server.tip])
    server.offer_objects(objects + [(COMMIT, made)], oid("commit", made))
