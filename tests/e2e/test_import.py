"""A distribution's disk image becomes a sandbox: partitions, a boot loader's files and a kernel of its own, a user with our agent's id."""

import os
import pathlib
import shutil
import struct
import subprocess

import pytest

import harness

SECTOR = 512
FIRST = 2048  # sectors before the first partition, as every partitioner leaves them
PACKAGES = "systemd-sysv,openssh-server,sudo,git,linux-image-cloud-amd64"  # no tmux, like several distributions' images
SETTLE = """
set -e
echo cloudy >"$1/etc/hostname"
printf 'UUID=%s / ext4 errors=remount-ro 0 1\\nUUID=%s /boot ext2 defaults 0 2\\n' ROOT BOOT >"$1/etc/fstab"
mkdir -p "$1/boot/grub"
echo "linux /vmlinuz root=UUID=ROOT ro" >"$1/boot/grub/grub.cfg"
chroot "$1" useradd --uid 1000 --create-home --shell /bin/bash debian
echo canary >"$1/home/debian/note"
chroot "$1" ssh-keygen -A
mkdir -p "$1/etc/cloud"
printf '[Unit]\nBefore=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' \
  >"$1/etc/systemd/system/cloud-init.service"
chroot "$1" systemctl --quiet enable cloud-init.service systemd-networkd.service
"""
ROOT, BOOT = "6f0c5bd2-5d0a-4a9e-9b1e-000000000001", "6f0c5bd2-5d0a-4a9e-9b1e-000000000002"


def partition_table(*sizes):
    """A master boot record; sizes in sectors."""
    table, start = b"", FIRST
    for size in sizes:
        table += struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", start, size)
        start += size
    return b"\xeb\x3c\x90".ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"


@pytest.fixture(scope="module")
def cloud_image(home):
    """As qcow2, made from Debian's packages."""
    if os.geteuid() != 0:
        pytest.skip("not root here: the image's files belong to others")
    folder = home.folder / "cloud"
    folder.mkdir()
    tree, boot = folder / "tree", folder / "boot"
    settle = SETTLE.replace("ROOT", ROOT).replace("BOOT", BOOT)
    (folder / "settle").write_text("#!/bin/sh\n" + settle)
    (folder / "settle").chmod(0o755)
    environment = {name: os.environ[name] for name in harness.PASSED if name in os.environ} | {"TMPDIR": str(folder)}
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={folder / 'settle'}", "bookworm", tree],
                   check=True, env=environment, timeout=900)
    shutil.move(tree / "boot", boot)
    (tree / "boot").mkdir()
    for source, size, uuid, name in ((boot, "160M", BOOT, "ext2"), (tree, "1800M", ROOT, "ext4")):
        subprocess.run(["mke2fs", "-q", "-t", name, "-U", uuid, "-d", source, folder / f"{name}.part", size], check=True)
        shutil.rmtree(source)
    raw = folder / "raw"
    parts = [folder / "ext2.part", folder / "ext4.part"]
    raw.write_bytes(partition_table(*(part.stat().st_size // SECTOR for part in parts)).ljust(FIRST * SECTOR, b"\0"))
    with open(raw, "ab") as file:
        for part in parts:
            with open(part, "rb") as content:
                shutil.copyfileobj(content, file, 1 << 20)
            part.unlink()
    image = folder / "cloud.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, image], check=True)
    raw.unlink()
    return image


@harness.full_tier("a cloud image to make and to take apart")
def test_a_cloud_image_becomes_a_sandbox(agentvm, home, cloud_image):
    before = cloud_image.read_bytes()
    result = agentvm.run("image", "import", cloud_image, "--name", "cloud", "--json", timeout=900)
    assert b"its user debian had the agent's id" in result.stderr
    assert cloud_image.read_bytes() == before
    listed = agentvm.json("image", "inspect", "cloud", "--verify")
    assert listed["imported"].startswith("debian 12") and listed["verified"]
    try:
        repository = harness.make_repository(home.folder / "project")
        agentvm.start(repository, "box", "--image", "cloud", "--memory", "1G")
        assert agentvm.exec("box", "id", "-un") == "agent\n"
        assert agentvm.exec("box", "hostname") == "box\n"
        assert agentvm.exec("box", "sudo", "id", "-u") == "0\n"
        assert agentvm.exec("box", "cat", "/workspace/README", "/home/debian/note") == "one\ncanary\n"
        assert agentvm.exec("box", "ls", "/etc/cloud") == "cloud-init.disabled\n"
        running = agentvm.exec("box", "sudo", "systemctl", "list-units", "--no-legend", "--plain", "--state=active", "--type=service")
        assert "cloud" not in running and "networkd" not in running
        # The kernel is ours, and its modules are there.
        assert agentvm.exec("box", "sh", "-c", "sudo modprobe overlay && uname -r").strip() == listed["kernel_version"]
        tip = harness.commit_inside(agentvm, "box", "x", "from the cloud\n")
        assert agentvm.json("sync", "box")["new_tip"] == tip
        terminal = agentvm.spawn("attach", "box")
        terminal.expect("box")
        terminal.sendline("echo with-a-$((40+2))-terminal")
        terminal.expect("with-a-42-terminal")
        terminal.close(force=True)
        assert agentvm.exec("box", "sh", "-c", "command -v tmux && tmux ls") == "/usr/local/bin/tmux\n" + agentvm.exec("box", "tmux", "ls")
        agentvm.run("stop", "box", timeout=180)
        agentvm.start(repository, "box")
        assert agentvm.exec("box", "cat", "/workspace/x") == "from the cloud\n"
        agentvm.run("destroy", "box", "--force", timeout=180)
        refused = agentvm.run("image", "import", cloud_image, "--name", "cloud", code=2)
        assert b"there is an image 'cloud'" in refused.stderr and b"agentvm image remove cloud" in refused.stderr
    finally:
        for name in agentvm.sandboxes():
            agentvm.run("destroy", name, "--force", timeout=180)
        agentvm.run("image", "remove", "cloud")
    assert not [path for path in pathlib.Path(home.data / "agentvm" / "images").iterdir() if path.name.startswith(".building")]
