"""Row 10: a guest whose root does what it can reaches nothing of the host, its network and its neighbours: no packet arrives."""

import json
import os

import pytest

import decoy_net
import harness

NAME = "attacker"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

# What a guest may find worth a try: its network's own servers, the host in all its addresses, private and link-local networks, metadata, groups,
# and the same once more in the clothes of IPv6.
DESTINATIONS = [
    "10.0.2.2", "10.0.2.3", "10.0.2.4", "10.0.2.255", decoy_net.HOST, decoy_net.NEIGHBOUR, "10.0.0.1", "10.255.255.254", "100.64.0.1", "169.254.169.254",
    "169.254.1.1", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.122.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.251",
    "239.255.255.250", "255.255.255.255", "fec0::2", "fec0::3", decoy_net.HOST6, decoy_net.NEIGHBOUR6, "2001:db8::1", "::ffff:10.99.0.2", "64:ff9b::a63:2",
    "2002:a63:2::1", "ff02::1", "fe80::2%NIC",
]

ATTACK = r"""
import json, select, socket, struct, subprocess, sys, time
destinations, port = json.loads(sys.argv[1]), int(sys.argv[2])
nic = [name for _, name in socket.if_nameindex() if name != "lo"][0]
for command in ("link set %s up", "address add 10.0.2.15/24 dev %s", "route replace default via 10.0.2.2 dev %s", "-6 address add fec0::15/64 dev %s nodad",
                "-6 route replace default via fec0::2 dev %s"):
    subprocess.run(["ip", *(command % nic).split()], stderr=subprocess.DEVNULL)
reached, sent, pending = [], {"tcp": 0, "udp": 0, "icmp": 0, "raw": 0}, {}
def target(address, port):
    info = socket.getaddrinfo(address.replace("NIC", nic), port, flags=socket.AI_NUMERICHOST)[0]
    return info[0], info[4]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for address in destinations:
    for to in (port, 22, 53, 80, 443):
        family, where = target(address, to)
        stream = socket.socket(family, socket.SOCK_STREAM)
        stream.setblocking(False)
        if stream.connect_ex(where) in (0, 115):
            pending[stream] = (address, to)
        sent["tcp"] += 1
        datagram = socket.socket(family, socket.SOCK_DGRAM)
        datagram.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            datagram.sendto(b"out", where)
        except OSError:
            pass
        sent["udp"] += 1
    family, where = target(address, 0)
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    echo = struct.pack("!BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, 1, 1) + b"outside!"
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    try:
        raw.sendto(echo, where)
    except OSError:
        pass
    sent["icmp"] += 1
# Frames as they are, past every route: to all, and from somebody else.
frame = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
frame.bind((nic, 0))
for address in destinations:
    if ":" in address:
        continue
    for source in ("10.0.2.15", "10.0.2.2", "127.0.0.1"):
        body = struct.pack("!HHHH", 4000, port, 11, 0) + b"out"
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(address))
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        frame.send(b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + header + body)
        sent["raw"] += 1
end = time.monotonic() + 5
while pending and time.monotonic() < end:
    for stream in select.select([], list(pending), [], 0.5)[1]:
        address = pending.pop(stream)
        if stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            reached.append(address)
print(json.dumps({"reached": reached, "sent": sent}))
"""

THROUGH_THE_PROXY = r"""
import json, socket, sys
targets, port = json.loads(sys.argv[1]), int(sys.argv[2])
passed, asked = [], 0
def ask(request, *more):
    global asked
    asked += 1
    with socket.create_connection(("127.0.0.1", 3128), timeout=20) as s:
        s.sendall(request)
        answer = s.recv(4096)
        for part in more:
            s.sendall(part)
            answer = s.recv(4096)
        return answer
for host in targets:
    name = host.encode()
    authority = b"%s:%d" % (name, port)
    if b" 200 " in ask(b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n")[:20]:
        passed.append(["connect", host])
    if ask(b"GET http://" + authority + b"/ HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n")[:12] not in (b"HTTP/1.1 403", b"HTTP/1.1 400"):
        passed.append(["get", host])
    if ask(b"\5\1\0", b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big"))[1:2] == b"\0":
        passed.append(["socks", host])
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.strip("[]"))
    except OSError:
        continue
    if ask(b"\5\1\0", b"\5\1\0" + (b"\4" if len(packed) == 16 else b"\1") + packed + port.to_bytes(2, "big"))[1:2] == b"\0":
        passed.append(["socks address", host])
print(json.dumps({"passed": passed, "asked": asked}))
"""


@pytest.fixture(scope="module")
def net():
    made = decoy_net.DecoyNet()
    yield made
    made.close()


@pytest.fixture(scope="module")
def attacker(home, net):
    """The client in the namespace; so is the manager that it starts, and the guest's machine."""
    hosts = home.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{decoy_net.NEIGHBOUR} granted.test lan.test\n127.0.0.1 loop.test\n169.254.169.254 metadata.test\n"
                     f"{decoy_net.HOST} host.test\n")
    names = home.folder / "resolv.conf"  # what is not in the file above is asked for on the loopback, where nobody answers
    names.write_text("nameserver 127.0.0.1\n")
    path = home.folder / "config" / "agentvm" / "config.yaml"
    listed = ", ".join(f"'{name}.test:{net.port}'" for name in ("lan", "loop", "metadata", "host"))
    path.write_text(path.read_text() + f"egress:\n  allow: [{listed}]\n  grants: ['granted.test:{net.port}']\n")
    prefix = net.inside(net.host, "unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && mount --bind {names} /etc/resolv.conf && exec "$@"', "sh")
    client = harness.Agentvm(home, prefix=prefix)
    client.start(harness.make_repository(home.folder / "project"), NAME)
    yield client
    client.run("destroy", NAME, "--force")
    client.run("manager", "stop", code=(0, 2))


def quiet(net, what):
    count, last = net.count()
    assert count == 0, f"{what}: {count} packets, the last of them {last}"


def test_no_packet_leaves_by_itself(attacker, net):
    quiet(net, "before")
    out = json.loads(attacker.exec(NAME, "sudo", "python3", "-c", ATTACK, json.dumps(DESTINATIONS), str(net.port), timeout=300))
    assert out["sent"] == {"tcp": 5 * len(DESTINATIONS), "udp": 5 * len(DESTINATIONS), "icmp": len(DESTINATIONS),
                           "raw": 3 * sum(":" not in address for address in DESTINATIONS)}
    assert out["reached"] == []
    quiet(net, "TCP, UDP, ICMP and raw frames")


def test_none_leaves_through_the_proxy(attacker, net):
    """In every notation that a resolver might understand, and by listed names that resolve to where nobody may go."""
    targets = [address for address in DESTINATIONS if ":" not in address] + [f"[{address}]" for address in DESTINATIONS if ":" in address and "%" not in address]
    targets += ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "127.0.0.1.", "localhost", "10.99.2", "0xa630002", "174260226", "[::ffff:a63:2]", "[::]",
                "[::1]", "lan.test", "loop.test", "metadata.test", "host.test", "LAN.test.", "unlisted.test", "granted.test.unlisted.test"]
    out = json.loads(attacker.exec(NAME, "python3", "-c", THROUGH_THE_PROXY, json.dumps(targets), str(net.port), timeout=300))
    assert out["passed"] == [] and out["asked"] >= 3 * len(targets)
    quiet(net, "the proxy")
    rows = {row["host"]: row["cause"] for row in attacker.json("egress", "log", NAME, "--denied")["rows"]}
    assert {rows[f"{name}.test"] for name in ("lan", "loop", "metadata", "host")} == {"special-address"}
    assert rows["unlisted.test"] == "not-listed"


def test_the_decoys_would_count(attacker, net):
    """The counter counts, and the one name that was granted is reached."""
    out = attacker.exec(NAME, "curl", "-sS", "--max-time", "30", "--proxy", "http://127.0.0.1:3128", f"http://granted.test:{net.port}/")
    assert out == "decoy"
    count, last = net.count()
    assert count > 0 and all(word.startswith(f"{decoy_net.NEIGHBOUR}/6:{net.port}") for word in last), last
