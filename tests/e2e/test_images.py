"""Images that somebody stands on stay, and damaged ones are named: seen on a copy of the built one (hard links), in
folders of the test's own."""

import json
import pathlib
import shutil
import subprocess
import tempfile

import pytest

import harness


@pytest.fixture
def client(image, tmp_path):
    shared = harness.Home(tmp_path).data / "agentvm" / "images"
    # Beside the shared one: hard links stay within a mount.
    home = harness.Home.make(data=pathlib.Path(tempfile.mkdtemp(prefix="images-", dir=harness.BUILD / "test-data")))
    target = home.data / "agentvm" / "images"
    target.mkdir(parents=True)
    home.data.joinpath("agentvm").chmod(0o700)
    target.chmod(0o700)
    for folder in shared.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            subprocess.run(["cp", "-al", str(folder), str(target)], check=True)
    made = harness.Agentvm(home)
    yield made
    made.run("manager", "stop", code=(0, 2))
    shutil.rmtree(home.data)
    harness.remove(home)


def current(client):
    return next(image for image in client.json("image", "list")["images"] if image["name"] == "default")  # others may be newer


def test_a_disk_that_was_kept_keeps_its_image(client):
    digest = current(client)["digest"]
    kept = client.home.state / "kept-disks"
    kept.mkdir(mode=0o700, parents=True)
    disk = kept / "gone-0a1b2c3d.qcow2"
    disk.write_bytes(b"")
    (kept / "gone-0a1b2c3d.qcow2.image").write_text(digest + "\n")
    assert current(client)["used_by"] == [f"kept disk {disk}"]
    assert client.json("image", "inspect", "default")["used_by"] == [f"kept disk {disk}"]
    refused = client.run("image", "remove", "default", code=2)
    assert b"is in use by kept disk" in refused.stderr and f"try: rm {disk}".encode() in refused.stderr
    assert json.loads(client.run("image", "remove", "default", "--json", code=2).stdout)["code"] == "wrong-state"
    client.run("image", "prune")
    assert current(client)["digest"] == digest
    disk.unlink()
    removed = client.json("image", "remove", digest[:8])
    assert removed["digest"] == digest and removed["freed_bytes"] > 0
    assert all(row["digest"] != digest for row in client.json("image", "list")["images"])
    client.run("image", "inspect", digest, code=1)


def test_an_image_is_found_by_its_name_or_said_to_be_missing(client, tmp_path):
    repository = harness.make_repository(tmp_path / "project")
    missing = client.run("start", repository, "--image", "no-such-image", "--no-attach", code=1)
    assert b"there is no image 'no-such-image'" in missing.stderr and b"agentvm image list" in missing.stderr
    name = client.sandboxes()[0]
    client.run("destroy", name, "--force")


def replace(file, change):
    """Another file in its place, so that the shared one stays as it is; returns what puts the old one back."""
    old, new = file.with_suffix(".old"), bytearray(file.read_bytes())
    file.rename(old)
    file.write_bytes(change(new))
    return lambda: old.rename(file)


def cut(content):
    return content[: len(content) // 2]


def overwritten(content):
    content[: 1 << 16] = bytes(1 << 16)
    return content


def test_a_damaged_image_is_named(client, tmp_path):
    repository = harness.make_repository(tmp_path / "project")
    image = current(client)
    folder, short = pathlib.Path(image["folder"]), image["digest"][:12]
    assert client.json("image", "inspect", short, "--verify")["verified"] is True

    # Cut short: seen at a glance, and nothing is started from it.
    back = replace(folder / "kernel", cut)
    listed = client.text("image", "list")
    assert f"{short[:8]}" in listed and "is damaged: kernel has" in listed
    refused = client.run("start", repository, "--name", "box", "--image", short, "--no-attach", code=3)
    assert b"is damaged: kernel has" in refused.stderr and f"try: agentvm image remove {short}".encode() in refused.stderr
    back()

    # Of the right size: the machine does not come up, and the error says why.
    back = replace(folder / "initrd", overwritten)
    refused = client.run("start", repository, "--name", "box", "--image", short, "--no-attach", code=3, timeout=harness.START_SECONDS)
    assert f"the image {short} that the disk of box stands on is damaged: initrd is not what was built".encode() in refused.stderr
    assert b"try: agentvm start --fresh" in refused.stderr
    assert client.json("status", "box")["state"] == "failed"
    assert b"initrd is not what was built" in client.run("image", "inspect", short, "--verify", code=3).stdout
    # It is remembered: nothing else is started from it, and the next build would make another.
    assert "is damaged: initrd is not what was built" in client.text("image", "list")
    other = harness.make_repository(tmp_path / "other")
    assert b"is damaged: initrd" in client.run("start", other, "--name", "other", "--image", short, "--no-attach", code=3).stderr
    client.run("destroy", "other", "--force")
    back()
    assert client.json("image", "inspect", short, "--verify")["verified"] is True
    client.start(repository, "box", "--image", short)
    client.run("stop", "box")

    # A disk that stands on it says so, too, and heals with it.
    back = replace(folder / "kernel", cut)
    refused = client.run("start", repository, "--name", "box", "--no-attach", code=3)
    assert b"that the disk of box stands on is damaged: kernel has" in refused.stderr and b"try: agentvm start --fresh" in refused.stderr
    back()
    client.start(repository, "box")
    assert client.exec("box", "cat", "/workspace/README") == "one\n"
    client.run("destroy", "box", "--force")
