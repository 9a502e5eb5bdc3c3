"""ctest's fixture `image`: builds the guest image once into the tests' data folder and points BUILD/test-data/image at it."""

import os
import sys

import harness


def main():
    home = harness.Home.make()
    client = harness.Agentvm(home)
    try:
        digest = client.json("image", "build", timeout=1500)["digest"]
        client.run("manager", "stop", code=(0, 2), timeout=60)
    finally:
        harness.remove(home)
    folder = home.data / "agentvm" / "images" / digest
    missing = [name for name in ("kernel", "initrd", "root.raw", "image.json") if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}")
    link = harness.BUILD / "test-data" / "image"
    fresh = link.with_name(f"image.{os.getpid()}")
    fresh.symlink_to(folder)
    fresh.replace(link)
    print(folder)


if __name__ == "__main__":
    main()
