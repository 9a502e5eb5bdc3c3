"""One guest takes all that it can get: the one beside it goes on working, and the host knows who it was.

Row 13 of the threat model. The sandboxes are on a small file system of their own, which a guest may fill.
"""

import contextlib
import os
import pathlib
import subprocess

import pytest

import harness

DISK = 2 << 30
INODES = 100_000
RESERVE = 800 << 20
MEMORY = 768 << 20


@pytest.fixture(scope="module")
def small_disk(home):
    if os.geteuid() != 0:
        pytest.skip("not root here: nobody else may mount a small file system")
    state = home.folder / "state"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},nr_inodes={INODES},mode=700", "tmpfs", state], check=False, capture_output=True,
                             text=True)
    if mounted.returncode != 0:
        pytest.skip(f"root may mount nothing here: {mounted.stderr.strip()}")
    with open(home.folder / "config/agentvm/config.yaml", "a", encoding="utf-8") as file:
        file.write("limits:\n  disk_reserve: 800M\n")
    yield state
    client = harness.Agentvm(home)
    for name in client.sandboxes():  # what an abuser left in its workspace is nobody's work
        client.run("stop", name, "--force", code=(0, 2), timeout=180)
        client.run("destroy", name, "--force", timeout=180)
    client.run("manager", "stop", code=(0, 2), timeout=60)
    subprocess.run(["umount", state], check=True)


@pytest.fixture(scope="module")
def boxes(agentvm, home, small_disk):
    repositories = {name: harness.make_repository(home.folder / name) for name in ("abuser", "victim")}
    for name in repositories:
        start(agentvm, repositories, name)
    return repositories


def start(agentvm, repositories, name):
    agentvm.start(repositories[name], name, "--memory", "768M")


def state_of(agentvm, name):
    return next(row["state"] for row in agentvm.json("list")["sandboxes"] if row["name"] == name)


def check_victim(agentvm):
    """It runs, takes commands and writes."""
    assert agentvm.exec("victim", "sh", "-c", "echo alive >/workspace/sign && cat /workspace/sign", timeout=240) == "alive\n"
    assert state_of(agentvm, "victim") == "running"


def bring_back(agentvm, boxes):
    """The abuser as it was at first, whatever state it is in."""
    agentvm.run("stop", "abuser", "--force", code=(0, 2), timeout=180)
    start(agentvm, boxes, "abuser")


@contextlib.contextmanager
def abusing(agentvm, script):
    """The script runs in the abuser; what becomes of its client is its own business."""
    process = agentvm.popen("exec", "abuser", "--", "bash", "-c", script, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def machine_pid(home, name):
    domain = harness.record_of(home, name)["domain"]
    return int((home.state / "libvirt/run/qemu" / f"{domain}.pid").read_text())


def test_the_limits_in_force_are_shown(agentvm, home, boxes):
    status = agentvm.json("status", "abuser")
    limits = status["limits"]
    assert limits["memory_bytes"] == MEMORY and limits["vcpus"] == status["vcpus"]
    assert limits["nice"] == 5 and limits["oom_score_adj"] == 300
    assert limits["disk_bytes"] > 1 << 30 and limits["disk_reserve_bytes"] == RESERVE
    assert limits["scope"] is None and limits["scope_reason"], "these tests run as root, which has no user manager"
    text = agentvm.text("status", "abuser")
    assert "nice 5, 800M of the host's disk kept free, no systemd scope: " in text
    for task in pathlib.Path(f"/proc/{machine_pid(home, 'abuser')}/task").iterdir():
        assert int((task / "stat").read_text().rsplit(")", 1)[1].split()[16]) == 5, f"nice value of thread {task.name}"
    check = next(check for check in agentvm.json("doctor", code=None)["checks"] if check["id"] == "guest-limits")
    assert check["status"] == "pass" and check["data"]["disk_reserve_bytes"] == RESERVE


def test_a_fork_bomb(agentvm, boxes):
    with abusing(agentvm, "bomb() { bomb | bomb & }; bomb; sleep 60"):
        check_victim(agentvm)
        check_victim(agentvm)
        agentvm.run("stop", "abuser", "--force", timeout=180)
    assert state_of(agentvm, "abuser") == "stopped"
    check_victim(agentvm)
    start(agentvm, boxes, "abuser")


def test_all_of_its_memory(agentvm, home, boxes):
    script = "python3 -c 'x = []\nwhile True: x.append(bytearray(b\"x\" * (16 << 20)))'"
    for _ in range(2):
        with abusing(agentvm, script) as process:
            check_victim(agentvm)
            process.wait(timeout=240)  # its own kernel ends it
    lines = pathlib.Path(f"/proc/{machine_pid(home, 'abuser')}/status").read_text().splitlines()
    resident = sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    assert 300 << 20 < resident < MEMORY + (1 << 30), "its size, and what its emulator needs"
    check_victim(agentvm)


def test_a_flood_of_its_console(agentvm, home, boxes):
    with abusing(agentvm, "sudo timeout 20 sh -c 'yes flood >/dev/ttyS0 & yes flood >/dev/kmsg & wait'"):
        folder = home.state / "sandboxes/abuser"
        harness.eventually(lambda: b"flood" in (folder / "serial.log").read_bytes(), 60, "the flood reached the log")
        check_victim(agentvm)
    assert sum(path.stat().st_size for path in folder.glob("serial.log*")) <= 2 << 20
    assert (home.state / "manager.log").stat().st_size < 2 << 20


def test_a_flood_of_connections(agentvm, boxes):
    script = ("python3 -c 'import socket, time\nall = []\nwhile len(all) < 3000:\n"
              "  try:\n    s = socket.create_connection((\"127.0.0.1\", 3128), 5); s.send(b\"CONNECT \"); all.append(s)\n"
              "  except OSError: time.sleep(0.1)'")
    with abusing(agentvm, "ulimit -n 4096; timeout 60 " + script):
        check_victim(agentvm)
        answer = agentvm.exec("victim", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_connect}", "-x", "http://127.0.0.1:3128", "-m", "100",
                              "https://not-allowed.example.org/", code=None, timeout=240)
        assert answer == "403", "the victim's own connection is decided on"
    bring_back(agentvm, boxes)


def expect_blamed(agentvm, home, what):
    """The abuser is paused and says why; the victim works on; the disk is not full."""
    harness.eventually(lambda: state_of(agentvm, "abuser") == "paused", 240, "the abuser is paused")
    status = agentvm.json("status", "abuser")
    assert status["reason"] == "host-disk" and what in status["message"] and "left on the host's disk" in status["message"]
    assert what in agentvm.text("status", "abuser")
    check_victim(agentvm)
    room = os.statvfs(home.folder / "state")
    assert room.f_bavail * room.f_frsize > RESERVE // 4 or what.startswith("files")
    refused = agentvm.run("resume", "abuser", code=4)
    assert b"left on the host's disk" in refused.stderr, "and it is not let go while that is so"
    assert state_of(agentvm, "abuser") == "paused"


def test_the_disk_of_the_host(agentvm, home, boxes):
    with abusing(agentvm, "dd if=/dev/zero of=/workspace/fill bs=1M; sleep 100"):
        expect_blamed(agentvm, home, "G there since its start")
    os.truncate(home.state / "sandboxes/abuser/workspace/fill", 0)  # removed it would still be held open
    agentvm.run("resume", "abuser", timeout=120)
    assert agentvm.exec("abuser", "sh", "-c", "pkill -x dd; rm /workspace/fill; echo back", timeout=240) == "back\n"
    assert state_of(agentvm, "abuser") == "running"


@harness.full_tier("one more disk to fill")
def test_the_disk_of_the_host_by_a_file_that_has_no_name(agentvm, home, boxes):
    with abusing(agentvm, "exec 3>/workspace/hidden; rm /workspace/hidden; dd if=/dev/zero bs=1M >&3; sleep 100"):
        expect_blamed(agentvm, home, "G there since its start")
    stopped = agentvm.run("stop", "abuser", timeout=180)  # its end gives the room back
    assert b"the guest is not let go on" in stopped.stderr and state_of(agentvm, "abuser") == "stopped"
    assert "abuser is running" not in (home.state / "manager.log").read_text().rsplit("abuser is paused", 1)[1]
    start(agentvm, boxes, "abuser")
    assert agentvm.exec("abuser", "echo", "back", timeout=240) == "back\n"


@harness.full_tier("one more disk to fill")
def test_the_inodes_of_the_host(agentvm, home, boxes):
    filler = home.folder / "state/filler"
    filler.mkdir()
    for i in range(INODES - 20_000):
        (filler / str(i)).touch()
    script = "mkdir /workspace/many && cd /workspace/many && python3 -c 'i = 0\nwhile True: open(str(i), \"x\").close(); i += 1'"
    with abusing(agentvm, script):
        expect_blamed(agentvm, home, "files there since its start")
    subprocess.run(["rm", "-rf", filler], check=True)
    agentvm.run("resume", "abuser", timeout=120)
    assert agentvm.exec("abuser", "sh", "-c", "pkill -x python3; rm -rf /workspace/many; echo back", timeout=240) == "back\n"
    assert state_of(agentvm, "abuser") == "running"


# Without the default dependencies: with them it would come after sysinit.target, which comes after sshd, and systemd would leave one of the three out.
HOG = """[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=ssh.service shutdown.target
[Service]
Type=oneshot
TimeoutStartSec=600
ExecStart=/bin/sh -c 'rm /home/agent/hog || exit 0; sync; until mountpoint -q /workspace; do sleep 0.1; done; while dd if=/dev/zero bs=1M count=64 oflag=append conv=notrunc of=/workspace/fill; do sleep 0.3; done; sleep 500'
[Install]
WantedBy=multi-user.target ssh.service
"""


@harness.full_tier("one more disk to fill")
def test_the_disk_of_the_host_before_it_is_ready(agentvm, home, boxes):
    agentvm.run("exec", "abuser", "--", "sudo", "tee", "/etc/systemd/system/hog.service", stdin=HOG)
    agentvm.exec("abuser", "sh", "-c", "sudo systemctl --quiet enable hog.service && touch /home/agent/hog && sync")
    agentvm.run("stop", "abuser", timeout=180)
    refused = agentvm.run("start", boxes["abuser"], "--name", "abuser", "--no-attach", code=4, timeout=harness.START_SECONDS)
    assert b"G there since its start" in refused.stderr and b"try: agentvm image prune" in refused.stderr
    assert state_of(agentvm, "abuser") == "failed"
    check_victim(agentvm)
    os.truncate(home.state / "sandboxes/abuser/workspace/fill", 0)
    start(agentvm, boxes, "abuser")
    assert agentvm.exec("abuser", "sh", "-c", "rm /workspace/fill; echo back", timeout=240) == "back\n"


def test_a_start_without_room_says_so(agentvm, home, boxes):
    filler = home.folder / "state/filler"
    room = os.statvfs(home.folder / "state")
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - RESERVE + (50 << 20))
    try:
        other = harness.make_repository(home.folder / "other")
        refused = agentvm.run("start", other, "--name", "other", "--no-attach", code=4)
        assert b"limits.disk_reserve" in refused.stderr and b"other" in refused.stderr
        assert "other" not in agentvm.sandboxes()
        check_victim(agentvm)
        assert state_of(agentvm, "abuser") == "running", "it is nobody's fault but the host's own"
    finally:
        filler.unlink()


SCOPE_SCRIPT = """
set -e
export DEBIAN_FRONTEND=noninteractive
sudo apt-get -q update >&2 && sudo apt-get -q install -y --no-install-recommends dbus-user-session libpam-systemd >&2
sudo install -d -m 700 -o agent -g agent /run/user/1000
sudo systemd-run --quiet --unit=manager-of-agent --slice=user-1000.slice -p Type=notify -p User=agent -p KillMode=mixed \\
  -p Environment=XDG_RUNTIME_DIR=/run/user/1000 -p Delegate="pids memory cpu cpuset io" /lib/systemd/systemd --user
for i in $(seq 300); do [ ! -S /run/user/1000/bus ] || break; sleep 0.2; done
exec env XDG_RUNTIME_DIR=/nowhere /tmp/probe/ld.so --library-path /tmp/probe /tmp/probe/limits_probe
"""


def test_a_scope_of_the_users_systemd(agentvm, home, boxes):
    """The guest has what a desktop has and these tests' hosts have not: a user's systemd. The same code makes its scope there."""
    probe = harness.BUILD / "tests/limits_probe"
    bundle = home.folder / "probe"
    bundle.mkdir()
    libraries = subprocess.run(["ldd", probe], check=True, capture_output=True, text=True).stdout
    for line in libraries.splitlines():
        for word in line.split():
            if word.startswith("/"):
                subprocess.run(["cp", "-L", word, bundle / ("ld.so" if "ld-linux" in word else pathlib.Path(word).name)], check=True)
    subprocess.run(["cp", probe, bundle], check=True)
    archive = subprocess.run(["tar", "-C", home.folder, "-cf", "-", "probe"], check=True, capture_output=True).stdout
    agentvm.run("exec", "victim", "--", "tar", "-C", "/tmp", "-xf", "-", stdin=archive, timeout=240)
    said = agentvm.exec("victim", "sh", "-c", SCOPE_SCRIPT, timeout=900)
    values = dict(line.split(": ", 1) for line in said.splitlines())
    assert values["why"] == "" and values["unit"] == "agentvm-probe.scope", said
    assert values["cgroup"].endswith("/agentvm-probe.scope"), said
    assert values["memory.max"] == str(3 << 30) and values["pids.max"] == "64" and values["cpu.weight"] == "50", said
    assert "agentvm-probe.scope was already loaded" in values["second"], said
    assert values["forks"] == "refused", "TasksMax holds"
