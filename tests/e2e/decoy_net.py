"""A host of its own for attacks: a network namespace whose only neighbour answers for every address and counts who comes.

The product runs in the one namespace; all routes of it lead to the other, which has no way on. Both end with this object.
"""

import subprocess
import sys
import threading

NEIGHBOUR, HOST = "10.99.0.2", "10.99.0.1"
NEIGHBOUR6, HOST6 = "fd99::2", "fd99::1"

# Counts packets on one interface, and prints the count with each line that it reads. What keeps a link up (ARP, neighbour discovery, group
# reports) is none of an attack's. On a loopback, only pings and the decoy's port count: the product uses the rest itself.
SNIFFER = """
import socket, struct, sys, threading
device, port = sys.argv[1], int(sys.argv[2])
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sniffer.bind((device, 0))
seen = []
def listen():
    while True:
        frame, origin = sniffer.recvfrom(65535)
        if origin[2] == socket.PACKET_OUTGOING:
            continue
        kind = struct.unpack("!H", frame[12:14])[0]
        if kind == 0x0800:
            protocol, rest, target = frame[23], frame[14 + (frame[14] & 15) * 4:], socket.inet_ntop(socket.AF_INET, frame[30:34])
        elif kind == 0x86dd:
            protocol, rest, target = frame[20], frame[54:], socket.inet_ntop(socket.AF_INET6, frame[38:54])
            if protocol == 0 or (protocol == 58 and rest and 130 <= rest[0] <= 143):
                continue
        else:
            continue
        to = struct.unpack("!H", rest[2:4])[0] if protocol in (6, 17) and len(rest) >= 4 else 0
        ping = protocol in (1, 58) and rest and rest[0] in (8, 128)
        if device == "lo" and not ping and to != port:
            continue
        seen.append("%s/%d:%d" % (target, protocol, to))
threading.Thread(target=listen, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    print(len(seen), " ".join(seen[-20:]), flush=True)
"""

SERVER = """
import socket, sys, threading
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    def serve(connection):
        try:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\ndecoy")
        except OSError:
            pass
        connection.close()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""


def _namespace():
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"ready\n"
    return holder


class DecoyNet:
    port = 8099

    def __init__(self):
        self.processes, self.lock = [], threading.Lock()
        try:
            self.host, self.neighbour = _namespace(), None
            self.processes.append(self.host)
            self.neighbour = _namespace()
            self.processes.append(self.neighbour)
            self._wire()
            self.link = self._python(self.neighbour, SNIFFER, "neighbour0", self.port)
            self.loopback = self._python(self.host, SNIFFER, "lo", self.port)
            self._python(self.neighbour, SERVER, self.port)
            self._python(self.host, SERVER, self.port)
        except BaseException:
            self.close()
            raise

    def inside(self, holder, *command):
        return ["nsenter", "-t", str(holder.pid), "-n", *map(str, command)]

    def _wire(self):
        def ip(holder, *words):
            subprocess.run(self.inside(holder, "ip", *words), check=True)

        ip(self.host, "link", "add", "host0", "type", "veth", "peer", "name", "neighbour0", "netns", self.neighbour.pid)
        for holder, device, address, address6 in ((self.host, "host0", HOST, HOST6), (self.neighbour, "neighbour0", NEIGHBOUR, NEIGHBOUR6)):
            ip(holder, "link", "set", "lo", "up")
            ip(holder, "address", "add", address + "/24", "dev", device)
            ip(holder, "address", "add", address6 + "/64", "dev", device, "nodad")
            ip(holder, "link", "set", device, "up")
        ip(self.host, "route", "add", "default", "via", NEIGHBOUR)
        ip(self.host, "-6", "route", "add", "default", "via", NEIGHBOUR6)
        # The neighbour takes every address for its own.
        ip(self.neighbour, "route", "add", "local", "0.0.0.0/0", "dev", "lo")
        ip(self.neighbour, "-6", "route", "add", "local", "::/0", "dev", "lo")

    def _python(self, holder, program, *arguments):
        process = subprocess.Popen(self.inside(holder, sys.executable, "-c", program, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def count(self):
        """Packets that arrived so far at the neighbour or at the host's own decoy, and the last of them."""
        with self.lock:
            total, last = 0, []
            for sniffer in (self.link, self.loopback):
                sniffer.stdin.write("\n")
                sniffer.stdin.flush()
                words = sniffer.stdout.readline().split()
                total += int(words[0])
                last += words[1:]
            return total, last

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
