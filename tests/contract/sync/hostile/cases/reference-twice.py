"""One branch with two tips: which one was judged?

Reference: gitprotocol-pack(5), reference discovery"""

from wire import MISSING

REJECTED = r"advertised twice"


def serve(server):
    server.advertise([(server.tip, "refs/heads/x"), (MISSING, "refs/heads/x")])
