"""A byte now and then: never idle, never done.

Reference: CWE-400 (slow sender)"""

import select

from wire import MISSING, band

EXPECT = r"in time|took too long"
LIMITS = {"seconds": 3}


def serve(server):
    server.advertise([(MISSING, "refs/heads/x")])
    server.answer()
    while True:
        server.send(band(2, b"."))
        select.select([], [], [], 0.05)
