"""A pack that announces 4,294,967,295 objects.

Reference: gitformat-pack(5); CWE-789"""

from wire import make_pack

EXPECT = r"sync\.limits\.objects"


def serve(server):
    server.offer(make_pack([], announced=0xFFFFFFFF))
