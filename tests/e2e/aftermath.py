"""ctest's clean-up of the fixture `image`: what may not be left in places that all tests of a run share. Usage: aftermath.py note|check."""

import json
import os
import pathlib
import sys

import harness

NOTE = harness.BUILD / "test-data" / "before.json"
PATTERNS = ("agentvm*", "avm-*", "mmdebstrap*", "libvirt*", "libguestfs*", "qemu*")


def names():
    folders = {"/tmp", "/var/tmp", "/dev/shm", os.environ.get("TMPDIR", "/tmp")}
    return sorted(str(path) for folder in folders for pattern in PATTERNS for path in pathlib.Path(folder).glob(pattern)
                  if not path.name.startswith("agentvm-test-"))  # unit and contract tests make and remove their own, beside us


def main(step):
    if step == "note":
        NOTE.parent.mkdir(parents=True, exist_ok=True)
        NOTE.write_text(json.dumps(names()))
        return
    left = sorted(set(names()) - set(json.loads(NOTE.read_text())))
    if left:
        sys.exit("left behind by this run:\n" + "\n".join(left))


if __name__ == "__main__":
    main(sys.argv[1])
