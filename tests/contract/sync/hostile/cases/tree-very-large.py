"""A folder of 17,000 files whose names are 4,000 bytes long: 65 MiB that are read in one piece.

Reference: core.bigFileThreshold in git-config(1), which spares blobs alone; CWE-789"""

from wire import oid, tree_entry

EXPECT = r"tree [0-9a-f]{40} from the sandbox is too large"


def serve(server):
    file = oid("blob", b"x")
    server.offer_tree(b"".join(tree_entry("100644", f"{number:05}" + "a" * 3995, file) for number in range(17000)))
