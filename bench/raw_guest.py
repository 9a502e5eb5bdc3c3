"""The floor of a start: the sandbox's own machine, booted by QEMU without libvirt, manager or shared folder, and polled with OpenSSH."""

import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET

HEADER = struct.Struct("<4sBBHII")
REQUEST, RESPONSE = 1, 2


class AgentPort:
    """The host's side of the agent port, as far as an identity needs it."""

    def __init__(self, path, deadline):
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.deadline, self.buffer = deadline, b""

    def send(self, number, body):
        payload = json.dumps(body).encode()
        self.socket.sendall(HEADER.pack(b"AVM1", REQUEST, 0, 0, number, len(payload)) + payload)

    def answer(self, number, seconds):
        """The response to a request, or None after that many seconds."""
        end = min(time.monotonic() + seconds, self.deadline)
        while True:
            while len(self.buffer) >= HEADER.size:
                start = self.buffer.find(b"AVM1")
                if start != 0:
                    self.buffer = self.buffer[max(start, 0):] if start > 0 else self.buffer[-3:]
                    break
                _, kind, _, _, which, length = HEADER.unpack_from(self.buffer)
                if len(self.buffer) < HEADER.size + length:
                    break
                payload, self.buffer = self.buffer[HEADER.size:HEADER.size + length], self.buffer[HEADER.size + length:]
                if kind == RESPONSE and which == number:
                    return json.loads(payload)
            if time.monotonic() >= end:
                return None
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.buffer += self.socket.recv(65536)
            except TimeoutError:
                pass


class RawGuest:
    """Made from a domain.xml as a sandbox was last started; `boot` takes the seconds from QEMU's start to the first `true` over ssh."""

    def __init__(self, domain_xml, seconds_limit=120):
        self.domain, self.limit = ET.parse(domain_xml).getroot(), seconds_limit
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="avm-raw-"))
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)], check=True)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def text(self, path):
        return self.domain.find(path).text

    def command(self, port, overlay):
        memory, vcpus = int(self.text("memory")) // 1024, self.text("vcpu")
        kvm = self.domain.get("type") == "kvm"
        accelerator = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
        return [self.text("devices/emulator"), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,vmport=off,smm=off",
                *accelerator, "-m", str(memory), "-smp", vcpus, "-bios", self.text("os/loader"), "-kernel", self.text("os/kernel"), "-initrd",
                self.text("os/initrd"), "-append", self.text("os/cmdline"),
                "-drive", f"file={overlay},format=qcow2,if=none,id=root,discard=unmap", "-device", "virtio-blk-pci,drive=root,disable-legacy=on",
                "-serial", f"file:{self.folder}/serial.log", "-device", "virtio-serial-pci,disable-legacy=on",
                "-chardev", f"socket,id=agent,path={self.folder}/agent.sock,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=org.agentvm.agent.0", "-device", "virtio-rng-pci",
                "-netdev", f"user,id=net0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
                "-device", "virtio-net-pci,netdev=net0,romfile=,disable-legacy=on"]

    def identity(self):
        return {"hostname": "raw", "machine_id": os.urandom(16).hex(), "host_key_private": (self.folder / "host").read_text(),
                "host_key_public": (self.folder / "host.pub").read_text(), "authorized_keys": (self.folder / "client.pub").read_text(),
                "network": {"address": "10.0.2.15", "prefix": 24, "gateway": "", "resolv_conf": ""}, "workspace": "none",
                "unix_ns": time.time_ns()}

    def boot(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        overlay, base = self.folder / "disk.qcow2", self.domain.find("devices/disk/backingStore/source").get("file")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, str(overlay)], check=True)
        begin = time.monotonic()
        with subprocess.Popen(self.command(port, overlay), stdin=subprocess.DEVNULL) as qemu:
            try:
                self.until_ssh(port, begin + self.limit)
                return time.monotonic() - begin
            finally:
                qemu.kill()
                qemu.wait()
                overlay.unlink()

    def until_ssh(self, port, deadline):
        agent = AgentPort(self.folder / "agent.sock", deadline)
        number = 1
        while not self.hello(agent, number):
            number += 1
            if time.monotonic() > deadline:
                raise TimeoutError("the guest's agent does not answer: " + str(self.folder / "serial.log"))
        agent.send(1000, {"op": "identity", "identity": self.identity()})
        reply = agent.answer(1000, 60)
        if not reply or not reply.get("ok"):
            raise RuntimeError(f"identity refused: {reply}")
        command = ["ssh", "-F", "none", "-i", str(self.folder / "client"), "-p", str(port), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                   "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR", "agent@127.0.0.1", "true"]
        while subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError("no ssh: " + str(self.folder / "serial.log"))
            time.sleep(0.02)

    @staticmethod
    def hello(agent, number):
        agent.send(number, {"op": "hello", "nonce": "raw"})
        return agent.answer(number, 0.1)
