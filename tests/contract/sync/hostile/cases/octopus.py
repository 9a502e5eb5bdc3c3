"""A commit with 20,000 parents.

Reference: CWE-407"""

from wire import COMMIT, TREE, commit, oid

LIMITS = {"objects": 100000}


def serve(server):
    objects, parents = [(TREE, b"")], []
    for number in range(20000):
        made = commit(oid("tree", b""), [server.tip], str(number))
        objects.append((COMMIT, made))
        parents.append(oid("commit", made))
    made = commit(oid("tree", b""), parents)
    server.offer_objects(objects + [(COMMIT, made)], oid("commit", made))
