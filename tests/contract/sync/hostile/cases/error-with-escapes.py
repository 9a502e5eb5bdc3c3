"""An error text that drives a terminal.

Reference: CVE-2024-52005 (sideband and error text with escape sequences)"""

from wire import pkt

EXPECT = r"\\x1b\]52"


def serve(server):
    server.send(pkt("ERR \x1b]52;c;ZXZpbA==\x07\n"))
