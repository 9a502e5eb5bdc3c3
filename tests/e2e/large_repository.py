"""A repository of the size of a real product, the same for a seed: for git fast-import, since making it by commits takes hours.

Merges, renames, deletions, executables, links, branches, tags, names beyond ASCII; files of a few hundred bytes to some hundred KiB."""

import random
import subprocess

FILES = 40_000
COMMITS = 12_000
SEED = 20_260_101
FOLDERS = ("src", "lib", "include", "tests", "docs/prüfung", "vendor", "tools", "www/статика")


def _names(rng, files):
    return [f"{FOLDERS[n % len(FOLDERS)]}/m{rng.randrange(40):02d}/p{rng.randrange(12):02d}/file-{n}.{rng.choice(('c', 'h', 'py', 'md'))}"
            for n in range(files)]


def _content(rng, size):
    return (f"{rng.getrandbits(256):064x}\n" * (size // 65 + 1))[:size].encode()


def _data(content):
    return b"data %d\n" % len(content) + content + b"\n"


def _quoted(name):
    return '"' + "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in name.encode()) + '"'


def _commit(branch, mark, number, parents, changes):
    head = f"commit refs/heads/{branch}\nmark :{mark}\ncommitter A Developer <dev@example.invalid> {1_600_000_000 + number * 600} +0100\n".encode()
    lines = [head, _data(f"Change {number}\n\nWith a few words on why.\n".encode())]
    lines += [f"{word} :{parent}\n".encode() for word, parent in zip(("from", "merge"), parents)]
    return b"".join([*lines, *changes, b"\n"])


def _modify(rng, name, mode="100644", size=None):
    size = size or (200_000 if rng.random() < 0.001 else rng.randrange(80, 2400))
    return f"M {mode} inline {_quoted(name)}\n".encode() + _data(_content(rng, size))


def stream(files=FILES, seed=SEED):
    """The pieces of what git fast-import reads; the last commits of main and of the branches are all reachable."""
    rng = random.Random(seed)
    names = _names(rng, files)
    first = [_modify(rng, name, rng.choice(("100644",) * 19 + ("100755",))) for name in names]
    first += [f"M 120000 inline links/{n}\n".encode() + _data(f"../src/{n}".encode()) for n in range(20)]
    yield _commit("main", 1, 0, (), first)
    tip, mark, side = 1, 1, None
    for number in range(1, COMMITS):
        mark += 1
        changes = [_modify(rng, rng.choice(names)) for _ in range(rng.randrange(1, 4))]
        if number % 40 == 0:  # a branch that is merged ten commits on
            side = mark
            yield _commit(f"topic-{number // 40 % 16}", mark, number, (tip,), [b"M 100644 inline side/%d\n" % number + _data(b"side\n")])
            continue
        parents = (tip,)
        if number % 40 == 10 and side:
            parents, side = (tip, side), None
        elif number % 25 == 0:
            old = rng.randrange(len(names))
            new = names[old].replace("file-", f"moved-{number}-", 1)
            changes = [f"R {_quoted(names[old])} {_quoted(new)}\n".encode()]
            names[old] = new
        yield _commit("main", mark, number, parents, changes)
        tip = mark
        if number % 400 == 1:
            yield f"reset refs/tags/v{number // 400}\nfrom :{tip}\n\n".encode()
    yield b"done\n"


def make(folder, files=FILES):
    """Makes it at `folder`, its main checked out and clean."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder)], check=True)
    with subprocess.Popen(["git", "-C", str(folder), "fast-import", "--quiet", "--done"], stdin=subprocess.PIPE) as process:
        for piece in stream(files):
            process.stdin.write(piece)
        process.stdin.close()
        assert process.wait(300) == 0
    subprocess.run(["git", "-C", str(folder), "reset", "--quiet", "--hard"], check=True)
    return folder
