"""Reference names with '..', a lock's name, a control character, an option's form.

Reference: git-check-ref-format(1); CVE-2018-11235 (names that become paths)"""

REJECTED = r"'\.\.'|empty|lock|starts with|control|character"


def serve(server):
    server.advertise([(server.tip, name) for name in ("refs/heads/../../hooks/post-merge", "refs/heads/x.lock", "refs/heads/-x",
                                                      "refs/heads/\x1b[2J", "refs/heads/a//b", "refs/heads/.x", "refs/heads/a:b")])
