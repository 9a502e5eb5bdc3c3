"""A name longer than a file's may be.

Reference: git-check-ref-format(1); NAME_MAX"""

REJECTED = r"too long"


def serve(server):
    server.advertise([(server.tip, "refs/heads/" + "x" * 60000)])
