"""A commit of 65 MiB, well-made, in a pack of 64 KiB: whoever reads it holds all of it at once.

Reference: CWE-789"""

from wire import COMMIT, TREE, commit, oid

EXPECT = r"commit [0-9a-f]{40} from the sandbox is too large"


def serve(server):
    made = commit(oid("tree", b""), [server.tip], "x" * (65 << 20))
    server.offer_objects([(TREE, b""), (COMMIT, made)], oid("commit", made))
