"""What the end-to-end tests stand on: a private home, a runner for the client, repositories, and the search for leaks."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("AGENTVM_BUILD", ROOT / "build")).resolve()
FULL = os.environ.get("AGENTVM_TEST_TIER") == "full"
START_SECONDS = 240  # a cold start takes 6-8 s by emulation on an idle machine; CI machines are not idle
IDENTITY = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.invalid", "-c", "commit.gpgsign=false"]
KEPT = ("manager.log*", "sandboxes/*/serial.log*", "sandboxes/*/virtiofsd.log", "sandboxes/*/record.json", "sandboxes/*/domain.xml",
        "libvirt/log/**/*.log")
# What a host must hand on for its packages to be reached; nothing else of the caller's environment gets in.
PASSED = ("PATH", "TERM", "NODE_EXTRA_CA_CERTS", "AGENTVM_ACCEL", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
          "HTTPS_PROXY", "NO_PROXY", "npm_config_registry", "NPM_CONFIG_REGISTRY")


def full_tier(reason):
    """Marks what `./bootstrap test --full` alone has the time for."""
    import pytest  # what measures and builds images needs no pytest

    return pytest.mark.skipif(not FULL, reason=f"{reason}; AGENTVM_TEST_TIER=full has it")


def qemu_saves_machines():
    """Whether this host's QEMU is none of 8.1 and 8.2, which can neither leave memory out of a state nor map it."""
    said = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return tuple(int(part) for part in re.search(r"version (\d+)\.(\d+)", said).groups()) not in ((8, 1), (8, 2))


def host_nests():
    """Whether this host's KVM lets a guest have virtual machines of its own."""
    files = [pathlib.Path(f"/sys/module/{module}/parameters/nested") for module in ("kvm_intel", "kvm_amd")]
    return any(file.is_file() and file.read_text().strip() in ("1", "Y") for file in files)


@dataclasses.dataclass
class Home:
    """Private folders of one test file; the images are shared by all of them."""

    folder: pathlib.Path
    data: pathlib.Path = BUILD / "test-data" / "xdg"

    @classmethod
    def make(cls, **changes):
        # Short, because socket paths end at 108 bytes.
        home = cls(pathlib.Path(tempfile.mkdtemp(prefix="avm-", dir=os.environ.get("TMPDIR", "/tmp"))), **changes)
        for name in ("home", "config", "state", "run", "tmp"):
            (home.folder / name).mkdir(mode=0o700)
        home.data.mkdir(parents=True, exist_ok=True)
        # Any free port: homes exist side by side, and beside the manager of whoever runs the tests.
        (home.folder / "config" / "agentvm").mkdir(mode=0o700)
        (home.folder / "config" / "agentvm" / "config.yaml").write_text("proxy:\n  port: 0\n")
        npmrc = pathlib.Path.home() / ".npmrc"  # names the registry, which the guest may then reach
        if npmrc.is_file():
            shutil.copyfile(npmrc, home.folder / "home" / ".npmrc")
        return home

    @property
    def state(self):
        return self.folder / "state" / "agentvm"

    def environment(self):
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        return passed | {
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_DATA_HOME": str(self.data),
            "TMPDIR": str(self.folder / "tmp"),
        }


class Client(subprocess.Popen):
    """Killed where its block fails: what it waits for may then never come, and neither would the failure."""

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Failed(AssertionError):
    """The client ended otherwise than the test said it must."""


class Agentvm:
    """Runs the client in a home. `prefix` goes before it (setpriv for another user)."""

    def __init__(self, home, binary=BUILD / "bin" / "agentvm", prefix=()):
        self.home, self.binary, self.prefix = home, str(binary), list(prefix)

    def argv(self, *arguments):
        return [*self.prefix, self.binary, *map(str, arguments)]

    def run(self, *arguments, code=0, stdin=b"", cwd=None, timeout=120, env=None):
        """The finished process (bytes). `code`: the exit status it must have, a tuple of them, or None for any."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        result = subprocess.run(self.argv(*arguments), input=stdin, cwd=cwd or self.home.folder, env=self.home.environment() | (env or {}),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False)
        wanted = code if isinstance(code, tuple) else (code,)
        if code is not None and result.returncode not in wanted:
            raise Failed(f"agentvm {' '.join(map(str, arguments))}: exit {result.returncode}, not {code}\n"
                         f"--- stdout\n{result.stdout[-4000:].decode(errors='replace')}\n--- stderr\n{result.stderr[-4000:].decode(errors='replace')}")
        return result

    def text(self, *arguments, **options):
        return self.run(*arguments, **options).stdout.decode()

    def json(self, *arguments, **options):
        """Standard output as JSON; `--json` goes before a `--`."""
        words = list(arguments)
        words.insert(words.index("--") if "--" in words else len(words), "--json")
        return json.loads(self.run(*words, **options).stdout)

    def start(self, repository, name, *options):
        self.run("start", repository, "--name", name, "--no-attach", *options, timeout=START_SECONDS)

    def exec(self, name, *command, **options):
        """Standard output of a command in the guest, as text."""
        return self.text("exec", name, "--", *command, **options)

    def spawn(self, *arguments, cwd=None, size=(24, 80), timeout=60):
        """The client on a terminal of its own (pexpect)."""
        import pexpect  # pylint: disable=import-outside-toplevel

        argv = self.argv(*arguments)
        environment = self.home.environment() | {"TERM": "xterm-256color"}
        return pexpect.spawn(argv[0], argv[1:], env=environment, cwd=str(cwd or self.home.folder), dimensions=size, timeout=timeout)

    def popen(self, *arguments, **options):
        return Client(self.argv(*arguments), **({"env": self.home.environment(), "cwd": self.home.folder} | options))

    def sandboxes(self):
        return [row["name"] for row in self.json("list")["sandboxes"]]

    def manager_pid(self):
        return self.json("manager", "status")["pid"]


def git(folder, *arguments, check=True):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LANG": "C.UTF-8"}
    result = subprocess.run(["git", "-c", "safe.directory=*", *IDENTITY, "-C", str(folder), *arguments], env=environment, capture_output=True,
                            text=True, check=False)
    assert not check or result.returncode == 0, f"git {arguments}: {result.stderr}"
    return result.stdout.strip()


def make_repository(folder, files=None):
    """A repository with one commit."""
    folder.mkdir(parents=True)
    git(folder, "-c", "init.defaultBranch=main", "init", "-q")
    for name, content in (files or {"README": "one\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "First")
    return folder


def commit_inside(agentvm, name, path, content):
    """Commits one file in /workspace, and nothing else that lies about there; returns the new tip."""
    script = (f"cd /workspace && printf %s '{content}' >{path} && git add {path} && git {' '.join(IDENTITY)} commit -q -m 'Add {path}' -- {path} && "
              "git rev-parse HEAD")
    return agentvm.exec(name, "sh", "-c", script).strip()


def eventually(probe, seconds=30, what="condition"):
    """The first true value of `probe`; fails with `what` when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.2)


def exit_status(terminal, seconds=60):
    """Exit status of what runs on a terminal, once it ended; a signal that ended it counts from 128."""
    import pexpect  # pylint: disable=import-outside-toplevel

    terminal.expect(pexpect.EOF, timeout=seconds)
    terminal.wait()
    return terminal.exitstatus if terminal.exitstatus is not None else 128 + terminal.signalstatus


def end_manager(agentvm):
    """Without a farewell, so that what it wrote down is all that the next one has."""
    pid = agentvm.manager_pid()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), 20, "the manager is gone")


def record_of(home, name):
    return json.loads((home.state / "sandboxes" / name / "record.json").read_text())


def rewrite_record(home, name, **changes):
    """The record as a manager that died in the middle would have left it."""
    record = record_of(home, name) | changes
    (home.state / "sandboxes" / name / "record.json").write_text(json.dumps(record))
    return record


# --- what is left behind ------------------------------------------------------------------------------------------------


def processes(home, program=""):
    """{pid: command line} of the processes that belong to a home, by their arguments or their environment."""
    needle, found = str(home.folder).encode(), {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            environment = b""
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes()
            if b"virtiofsd" in line:  # its arguments and environment name nothing; its mounts do
                environment += (entry / "mountinfo").read_bytes().replace(home.folder.name.encode(), needle)
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z" and line and (needle in line or needle in environment) and program.encode() in line:
                found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def mounts(home):
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(home.folder))]


def sockets(home):
    return [str(path.relative_to(home.folder)) for path in home.folder.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]


def temporary_files(home):
    """Names in a home's own temporary folder."""
    return sorted(str(path.relative_to(home.folder)) for path in (home.folder / "tmp").iterdir())


def leaks(home):
    """What a finished set of tests must not leave: one line each. What several files share is looked at when all ended (aftermath.py)."""
    with contextlib.suppress(AssertionError):  # ending takes a moment
        eventually(lambda: not processes(home), 15)
    found = [f"process {pid}: {line[:200]}" for pid, line in processes(home).items()]
    found += [f"mount {path}" for path in mounts(home)]
    found += [f"socket {path}" for path in sockets(home)]
    found += [f"temporary file {path}" for path in temporary_files(home)]
    return found


def remove(home):
    """Takes away what is left of a home, whatever it is."""
    for pid in processes(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for path in sorted(mounts(home), reverse=True):
        subprocess.run(["umount", "-l", path], check=False)
    shutil.rmtree(home.folder, ignore_errors=True)


def keep_artifacts(home, test):
    """Copies the logs and records of a home to where CI keeps them."""
    target = BUILD / "test-artifacts" / test.replace("/", "_").replace("::", ".")
    for pattern in KEPT:
        for path in home.state.glob(pattern):
            destination = target / path.relative_to(home.state)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                shutil.copyfile(path, destination)
    return target
