"""A tag of a tag of a tag, 20,000 times: each reader goes all the way down.

Reference: gitrevisions(7), which peels tags recursively; CWE-674"""

from wire import IDENT, TAG, entry, make_pack, oid

REJECTED = r"tag of a tag of a tag too often"
LIMITS = {"objects": 100000}


def serve(server):
    entries, inner, kind = [], server.tip, "commit"
    for number in range(20000):
        tag = f"object {inner}\ntype {kind}\ntag v{number}\ntagger {IDENT}\n\nx\n".encode()
        entries.append(entry(TAG, tag))
        inner, kind = oid("tag", tag), "tag"
    server.offer(make_pack(entries), inner, "refs/tags/v")
