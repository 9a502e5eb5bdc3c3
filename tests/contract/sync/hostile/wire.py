"""Pieces of an upload-pack that lies. A case is a file in cases/: its docstring says what is done and which advisory or document it comes
from, EXPECT is a regular expression for the refusal (or REJECTED for the reason why one branch stays behind), `serve(server)` attacks.
Run as a program: wire.py --describe CASE (JSON for the harness) or wire.py CASE TIP (the attack on standard input and output)."""

import hashlib
import importlib.util
import json
import os
import pathlib
import struct
import sys
import zlib

CAPABILITIES = "side-band-64k multi_ack_detailed thin-pack ofs-delta"
MISSING = "a" * 40
IDENT = "A <a@b> 1700000000 +0000"
COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
NAMES = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}


def pkt(payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return b"%04x" % (len(payload) + 4) + payload


def band(number, data):
    return b"".join(pkt(bytes([number]) + data[at : at + 65000]) for at in range(0, max(len(data), 1), 65000))


def oid(kind, data):
    return hashlib.sha1(f"{kind} {len(data)}".encode() + b"\0" + data).hexdigest()


def size_header(kind, size):
    first, rest = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while rest:
        out.append(first | 0x80)
        first, rest = rest & 0x7F, rest >> 7
    out.append(first)
    return bytes(out)


def deflate(data, level):
    """Small pieces get a small window: the default one is fetched from the system and given back for each of them, 1 ms every time."""
    window = (9, 1) if len(data) <= 512 else (15, 8)
    packer = zlib.compressobj(level, zlib.DEFLATED, *window)
    return packer.compress(data) + packer.flush()


def entry(kind, data, base=b"", size=None, level=1):
    return size_header(kind, len(data) if size is None else size) + base + deflate(data, level)


def offset(distance):
    """How far back the base of an OFS_DELTA lies."""
    out = [distance & 0x7F]
    distance >>= 7
    while distance:
        distance -= 1
        out.insert(0, 0x80 | distance & 0x7F)
        distance >>= 7
    return bytes(out)


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delta(base_size, result_size, operations):
    return varint(base_size) + varint(result_size) + operations


def make_pack(entries, announced=None, version=2, magic=b"PACK", trailer=None):
    body = magic + struct.pack(">II", version, len(entries) if announced is None else announced) + b"".join(entries)
    return body + (hashlib.sha1(body).digest() if trailer is None else trailer)


def tree_entry(mode, name, object_id):
    name = name.encode() if isinstance(name, str) else name
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(object_id)


def commit(tree, parents=(), message="x"):
    lines = [f"tree {tree}"] + [f"parent {parent}" for parent in parents]
    return ("\n".join(lines) + f"\nauthor {IDENT}\ncommitter {IDENT}\n\n{message}\n").encode()


class Server:
    def __init__(self, tip):
        self.tip = tip  # a commit that the host has

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def endless(self, data):
        chunk = data * max(1, 65536 // len(data))
        while True:
            self.send(chunk)

    def advertise(self, refs, capabilities=CAPABILITIES):
        """[(id, name)]"""
        out = []
        for index, (object_id, name) in enumerate(refs):
            name = name.encode() if isinstance(name, str) else name
            out.append(pkt(object_id.encode() + b" " + name + (b"\0" + capabilities.encode() if index == 0 else b"") + b"\n"))
        self.send(b"".join(out) + b"0000")

    def read_pkt(self):
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:
            sys.exit(0)
        length = int(head, 16)
        return sys.stdin.buffer.read(length - 4) if length else b""

    def answer(self, line="NAK\n"):
        """Reads wants and haves; each batch of haves is answered with NAK. Returns at "done", answered with `line`."""
        wanted = False
        while True:
            text = self.read_pkt()
            if text == b"" and wanted:
                self.send(pkt("NAK\n"))
            wanted = wanted or text == b""
            if text == b"done\n":
                self.send(pkt(line))
                return

    def offer(self, pack, tip=MISSING, branch="refs/heads/x"):
        """The whole conversation with this pack at its end."""
        self.advertise([(tip, branch)])
        self.answer()
        self.send(band(1, pack) + b"0000")

    def offer_objects(self, objects, tip):
        """Well-made entries of these [(kind, data)]."""
        self.offer(make_pack([entry(kind, data) for kind, data in objects]), tip)

    def offer_tree(self, entries, blobs=(b"x",)):
        """A commit on top of the host's whose root tree is these raw entries."""
        made = commit(oid("tree", entries), [self.tip])
        self.offer_objects([(COMMIT, made), (TREE, entries)] + [(BLOB, blob) for blob in blobs], oid("commit", made))


def load(path):
    spec = importlib.util.spec_from_file_location("case", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(words):
    sys.modules["wire"] = sys.modules["__main__"]
    sys.dont_write_bytecode = True
    if words[0] == "--describe":
        cases = {}
        for path in sorted(pathlib.Path(words[1]).glob("*.py")):
            module = load(path)
            if "\n" not in module.__doc__ or "Reference:" not in module.__doc__:
                sys.exit(f"{path}: the docstring names no reference")
            cases[path.stem] = {key.lower(): getattr(module, key) for key in ("EXPECT", "REJECTED", "LIMITS") if hasattr(module, key)}
        print(json.dumps(cases))
        return
    try:
        load(words[0]).serve(Server(words[1]))
    except OSError:  # the other end has had enough
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
