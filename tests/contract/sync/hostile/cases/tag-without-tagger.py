"""A tag nobody made.

Reference: git-fsck(1), missingTaggerEntry"""

from wire import TAG, oid

EXPECT = r"no tagger line"


def serve(server):
    tag = f"object {server.tip}\ntype commit\ntag v1\n\nx\n".encode()
    server.offer_objects([(TAG, tag)], oid("tag", tag))
