"""A branch at the null id, which means deleted.

Reference: gitprotocol-pack(5), reference discovery"""

REJECTED = r"no valid object id"


def serve(server):
    server.advertise([("0" * 40, "refs/heads/x")])
