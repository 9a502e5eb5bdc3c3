"""The main job as an unprivileged user, from an installed tree. As root, a throw-away user is made for it; else we are that user."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest

import harness

USER = "agentvm-test"
NAME = "plain-user"


@pytest.fixture(scope="module")
def user():
    """(prefix that runs a command as the user, its uid and gid)."""
    if os.getuid() != 0:
        yield [], os.getuid(), os.getgid()
        return
    subprocess.run(["userdel", USER], check=False, capture_output=True)  # of a run that was killed
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", USER], check=True)
    try:
        entry = pwd.getpwnam(USER)
        assert f"{USER}:" in pathlib.Path("/etc/subuid").read_text(), "useradd gave no subordinate ids"
        yield ["setpriv", "--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups", "--"], entry.pw_uid, entry.pw_gid
    finally:
        subprocess.run(["userdel", USER], check=True)


@pytest.fixture(scope="module")
def home(image, user):
    """A home and an installation that the user can reach; the checkout may be below a folder that it cannot."""
    _, uid, gid = user
    folder = pathlib.Path(tempfile.mkdtemp(prefix="avm-", dir="/var/tmp"))  # the image is too large for some /tmp
    made = harness.Home.make(data=folder / "data")
    built = (harness.BUILD / "test-data" / "image").resolve()
    shutil.copytree(built, made.data / "agentvm" / "images" / built.name, symlinks=True, copy_function=copy_sparse)
    for private in (made.data, made.data / "agentvm", made.data / "agentvm" / "images"):
        private.chmod(0o700)
    subprocess.run(["cmake", "--install", str(harness.BUILD), "--prefix", str(folder / "usr")], check=True, stdout=subprocess.DEVNULL)
    harness.make_repository(made.folder / "project")
    folder.chmod(0o755)
    for top in (made.folder, made.data):
        subprocess.run(["chown", "-R", f"{uid}:{gid}", str(top)], check=True)
    made.binary = folder / "usr" / "bin" / "agentvm"
    try:
        yield made
        left = harness.leaks(made)
        if left:
            harness.keep_artifacts(made, "leaks-unprivileged")
        assert not left, "left behind:\n" + "\n".join(left)
    finally:
        harness.remove(made)
        shutil.rmtree(folder, ignore_errors=True)


def copy_sparse(source, destination):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, destination], check=True)


@pytest.fixture(scope="module")
def agentvm(home, user):
    return harness.Agentvm(home, home.binary, user[0])


def test_main_job(agentvm, home, user):
    _, uid, _ = user
    repository = home.folder / "project"
    agentvm.run("start", repository, "--name", NAME, "--no-attach", timeout=harness.START_SECONDS, cwd=repository)
    status = agentvm.json("status", NAME)
    assert status["state"] == "running" and status["workspace_mode"] == "virtiofs"
    for program in ("qemu-system", "virtiofsd", "agentvm-manager"):
        running = harness.processes(home, program)
        assert running, program
        for pid in running:
            # virtiofsd's root is the root of a user namespace: seen from here it has one of the user's own ids.
            real = int(next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1])
            assert real != 0 or os.getuid() == uid == 0, (program, real)
    assert agentvm.exec(NAME, "id", "-un") == "agent\n"
    tip = harness.commit_inside(agentvm, NAME, "x", "inside\n")
    assert (home.state / "sandboxes" / NAME / "workspace" / "x").stat().st_uid == uid
    assert agentvm.json("sync", NAME)["new_tip"] == tip
    assert (repository / "x").read_text() == "inside\n" and (repository / "x").stat().st_uid == uid
    agentvm.run("stop", NAME)
    agentvm.run("start", repository, "--name", NAME, "--no-attach", timeout=harness.START_SECONDS)
    assert agentvm.exec(NAME, "cat", "/workspace/x") == "inside\n"
    # A file of the guest's root belongs to a subordinate id: it must go all the same.
    agentvm.exec(NAME, "sudo", "install", "-d", "-m", "700", "/workspace/theirs/deep")
    agentvm.run("destroy", NAME, "--force")
    assert not (home.state / "sandboxes" / NAME).exists()


@harness.full_tier("one more machine to read with")
def test_work_on_a_dead_disk(agentvm, home, user):
    _, uid, _ = user
    repository = home.folder / "project"
    agentvm.run("start", repository, "--name", "dead", "--workspace", "disk", "--no-attach", timeout=harness.START_SECONDS, cwd=repository)
    agentvm.exec("dead", "sh", "-c", "echo late >/workspace/late && sync")
    for pid in harness.processes(home, "qemu-system"):
        os.kill(pid, signal.SIGKILL)
    harness.eventually(lambda: agentvm.json("status", "dead")["state"] != "running", 30, "the end is noticed")
    destroyed = agentvm.json("destroy", "dead", "--force", timeout=600)
    wip = [ref for ref in destroyed["rescued"] if "/wip/" in ref]
    assert len(wip) == 1 and harness.git(repository, "show", wip[0] + ":late") == "late", destroyed
    assert (home.data / "agentvm" / "guestfs").stat().st_uid == uid
    agentvm.run("image", "prune", timeout=300)
    assert [path.name for path in (home.data / "agentvm" / "guestfs").iterdir()] == [".lock"]
    agentvm.run("manager", "stop", code=(0, 2))


@pytest.fixture
def confined(agentvm, home, user):
    """The client of the same user where no user namespace can be made."""
    if os.getuid() != 0:
        pytest.skip("needs root, to forbid user namespaces to somebody")
    agentvm.run("manager", "stop", code=(0, 2))
    script = home.folder / "without_namespaces.py"
    shutil.copy(pathlib.Path(__file__).with_name(script.name), script)  # the checkout may be below a folder that the user cannot reach
    client = harness.Agentvm(home, home.binary, ["/usr/bin/python3", "-B", str(script), *user[0]])
    yield client
    client.run("manager", "stop", code=(0, 2))
    script.unlink()


def test_where_user_namespaces_are_off_the_disk_mode_is_named_and_works(confined, home, user):
    repository = home.folder / "project"
    (check,) = [check for check in confined.json("doctor", code=4)["checks"] if check["id"] == "user-namespaces"]
    assert check["status"] == "fail" and "agentvm start --workspace disk" in check["remedy"]
    refused = confined.run("start", repository, "--name", "off", "--no-attach", code=4).stderr
    assert b"(user.max_user_namespaces)" in refused and b"try: agentvm start --workspace disk, or sudo sysctl user.max_user_namespaces=15000" in refused
    assert confined.sandboxes() == [], "it is told before anything is made"
    confined.run("start", repository, "--name", "off", "--workspace", "disk", "--no-attach", timeout=harness.START_SECONDS)
    tip = harness.commit_inside(confined, "off", "on-the-disk", "inside\n")
    assert confined.json("sync", "off")["new_tip"] == tip
    assert (repository / "on-the-disk").stat().st_uid == user[1]
    confined.run("destroy", "off", "--force", timeout=300)
    assert confined.sandboxes() == []


def test_what_never_ran_takes_the_mode_that_the_refusal_names(agentvm, home, user):
    """The refusal comes when the copy is made: only then is it known how many files it has."""
    repository = harness.make_repository(home.folder / "many", {f"f{number}": "x" for number in range(2100)})
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{user[1]}:{user[2]}", str(repository)], check=True)
    agentvm.run("manager", "stop", code=(0, 2))
    few = harness.Agentvm(home, home.binary, ["prlimit", "--nofile=2048:2048", *user[0]])
    refused = few.run("start", repository, "--name", "many", "--no-attach", code=4, timeout=harness.START_SECONDS).stderr
    assert b"through virtiofs" in refused and b"try: agentvm start --workspace disk" in refused
    assert few.json("status", "many")["state"] == "failed"
    few.run("start", repository, "--name", "many", "--workspace", "disk", "--no-attach", timeout=harness.START_SECONDS)
    assert few.json("status", "many")["workspace_mode"] == "disk" and few.exec("many", "cat", "/workspace/f2099") == "x"
    few.run("destroy", "many", "--force", timeout=300)
    few.run("manager", "stop", code=(0, 2))
