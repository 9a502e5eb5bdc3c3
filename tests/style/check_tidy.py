"""clang-tidy's short list over the product's sources, within a time budget; a verdict is kept until a source or a header changes.

Usage: check_tidy.py ROOT BUILD [SECONDS]. Files whose verdict is not known and that changed last come first; what did not fit is
counted aloud, never called clean. SECONDS 0 means no limit. Most of the time goes into the standard library's headers, so neighbours are
checked as one translation unit; where they do not compile together the batch is halved.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import repo

BATCH = 8
PRODUCT = ("vmm/", "guest/", "sync/", "proxy/", "cli/")


def apart(entry):
    """A command that compiles several files as one (AGENTVM_UNITY), as one for each of them."""
    if "/Unity/" not in entry["file"]:
        return [entry]
    names = re.findall(r'^#include "(.*)"$', pathlib.Path(entry["file"]).read_text(), re.MULTILINE)
    return [{**entry, "file": name, "command": entry["command"].replace(entry["file"], name)} for name in names]


def commands_for_clang(root, build, folder):
    """Compile commands without GCC's precompiled header (Clang cannot read it; the header itself is included instead)."""
    commands = json.loads((pathlib.Path(build) / "compile_commands.json").read_text())
    kept = []
    for entry in [each for group in commands for each in apart(group)]:
        text = re.sub(r"-include \S*/cmake_pch\.hxx", f"-include {root}/cmake/pch.hpp", entry["command"])
        entry["command"] = re.sub(r"\s-(fpch-preprocess|Winvalid-pch|Wno-psabi|Werror|Wpedantic)\b", "", text)
        name = os.path.relpath(entry["file"], root)
        if name.startswith(PRODUCT):
            kept.append(entry)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(kept))
    return sorted({os.path.relpath(entry["file"], root) for entry in kept})


def digest(root, names):
    total = hashlib.sha256()
    for name in names:
        total.update(name.encode() + b"\0" + (root / name).read_bytes())
    return total.hexdigest()


def recency(root):
    """Position of each file in the order of its last commit, newest first; not committed yet comes before that."""
    log = repo.git(root, "log", "--name-only", "--format=") or ""
    order = {}
    for name in log.splitlines():
        order.setdefault(name, len(order) + 1)
    return order


def judge(root, folder, names):
    """Findings by file name, for a batch of files of one folder."""
    source = str(root / names[0])
    if len(names) > 1:
        key = hashlib.sha256("".join(names).encode()).hexdigest()[:16]
        unit = folder / f"unit-{key}.cpp"
        unit.write_text("".join(f'#include "{root}/{name}"\n' for name in names))
        commands = json.loads((folder / "compile_commands.json").read_text())
        like = next(entry for entry in commands if entry["file"] == source)
        private = folder / f"unit-{key}"
        private.mkdir(exist_ok=True)
        entry = {**like, "file": str(unit), "command": like["command"].replace(source, str(unit))}
        (private / "compile_commands.json").write_text(json.dumps([entry]))
        folder, source = private, str(unit)
    command = ["clang-tidy", "-p", str(folder), "--quiet", source]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = sorted({line.replace(f"{root}/", "") for line in result.stdout.splitlines() if re.search(r": (error|warning): ", line)})
    if len(names) > 1 and (result.returncode and not lines or any("clang-diagnostic-error" in line for line in lines)):
        middle = len(names) // 2
        return judge(root, folder.parent, names[:middle]) | judge(root, folder.parent, names[middle:])
    if result.returncode and not lines:
        lines = [f"{names[0]}: clang-tidy failed: {result.stderr.strip()[-300:]}"]
    found = {name: [line for line in lines if line.startswith(name + ":")] for name in names}
    found[names[0]] += [line for line in lines if not line.startswith(tuple(name + ":" for name in names))]  # a header's
    return found


def batches(names):
    """Neighbours in batches, in the order given."""
    groups = {}
    for name in names:
        group = groups.setdefault(os.path.dirname(name), [[]])
        if len(group[-1]) == BATCH:
            group.append([])
        group[-1].append(name)
    return [batch for group in groups.values() for batch in group]


def check(root, build, seconds="240", *_):
    if not shutil.which("clang-tidy"):
        return ["clang-tidy is missing: ./bootstrap test installs it"]
    root, limit = pathlib.Path(root).resolve(), float(seconds) or float("inf")
    folder = pathlib.Path(build).resolve() / "style" / "tidy"
    names = commands_for_clang(root, build, folder)
    if not names:
        return ["the build folder lists no source of the product"]
    shared = digest(root, [".clang-tidy", *repo.files(root, (".hpp", ".h"))])
    verdict = {name: folder / f"{digest(root, [name])[:24]}{shared[:24]}.clean" for name in names}
    order = recency(root)
    due = sorted((n for n in names if not verdict[n].exists()), key=lambda n: order.get(n, 0))
    end = time.monotonic() + limit
    findings, left = set(), 0

    def one(batch):
        return batch, None if time.monotonic() > end else judge(root, folder, batch)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch, found in pool.map(one, batches(due)):
            if found is None:
                left += len(batch)
                continue
            for name, lines in found.items():
                findings |= set(lines)
                if not lines:
                    verdict[name].touch()
    print(f"clang-tidy: {len(names) - len(due)} known clean, {len(due) - left} checked now, {left} left for the next run")
    return sorted(findings)


if __name__ == "__main__":
    repo.main(check)
