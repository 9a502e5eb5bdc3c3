"""Python's own http.server on the folder that is given, as people start it. Prints its port."""
import functools
import http.server
import sys

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
if len(sys.argv) > 2:
    http.server.SimpleHTTPRequestHandler.protocol_version = sys.argv[2]
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1])
sys.stderr = open("/dev/null", "w")
server.serve_forever()
