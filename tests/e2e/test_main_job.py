"""The main job, on this repository: start, work inside, attach, sync, stop, start again, destroy. The tests run in order on one sandbox."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading

import pytest

import harness

NAME = "main-job"
STREAM_BYTES = (1 << 30) if harness.FULL else (16 << 20)


@pytest.fixture(scope="module")
def repository(home):
    folder = home.folder / "checkout"
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", str(harness.ROOT), str(folder)], check=True)
    harness.git(folder, "checkout", "-q", "-B", "main")
    return folder


@pytest.fixture(scope="module")
def box(agentvm, repository):
    """Name of the running sandbox."""
    agentvm.start(repository, NAME)
    return NAME


def test_status_and_list_agree(agentvm, box, repository):
    status = agentvm.json("status", box)
    assert status["schema"].startswith("agentvm.status/")
    assert status["name"] == box and status["state"] == "running"
    assert status["project"] == str(repository)
    assert status["accelerator"] in ("kvm", "tcg") and status["network"] == "filtered"
    assert status["ssh"]["host"] == "127.0.0.1" and status["ssh"]["user"] == "agent"
    row = next(row for row in agentvm.json("list")["sandboxes"] if row["name"] == box)
    assert row["state"] == "running" and row["project"] == str(repository)


def test_start_of_a_running_sandbox_is_2_with_its_status(agentvm, box, repository):
    status = agentvm.json("start", repository, "--name", box, "--no-attach", code=2)
    assert status["name"] == box and status["state"] == "running"


def test_name_is_known_from_the_working_directory(agentvm, box, repository):
    assert agentvm.json("status", cwd=repository / "docs")["name"] == box
    assert agentvm.run("exec", "--", "pwd", cwd=repository / "docs").stdout == b"/workspace/docs\n"


def test_an_unknown_name_is_1_in_text_and_json(agentvm, box):
    assert b"nosuch" in agentvm.run("status", "nosuch", code=1).stderr
    error = agentvm.json("status", "nosuch", code=1)
    assert error["schema"] == "agentvm.error/1" and error["exit_code"] == 1 and "nosuch" in error["message"]


@pytest.mark.parametrize(
    "command, status",
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "exit 255"], 255), (["no-such-program"], 127), (["/etc/passwd"], 126),
     (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM)],
)
def test_exec_returns_the_guest_status(agentvm, box, command, status):
    agentvm.run("exec", box, "--", *command, code=status)


def test_exec_of_an_unknown_sandbox_is_125(agentvm, box):
    agentvm.run("exec", "nosuch", "--", "true", code=125)


def test_exec_keeps_the_streams_apart(agentvm, box):
    result = agentvm.run("exec", box, "--", "sh", "-c", "echo out; echo err >&2")
    assert result.stdout == b"out\n" and result.stderr == b"err\n"


def test_exec_arguments_arrive_as_they_are(agentvm, box):
    words = ["a b", "", "'", '"', "$HOME", "*", "\\", ";", "new\nline", "-x", "ä"]
    result = agentvm.run("exec", box, "--", "printf", "%s\\0", *words)
    assert result.stdout.decode().split("\0")[:-1] == words


def test_exec_env_user_and_workdir(agentvm, box):
    script = 'printf "%s %s %s" "$WHO" "$(id -un)" "$PWD"'
    assert agentvm.text("exec", box, "--env", "WHO=me", "--workdir", "/tmp", "--", "sh", "-c", script) == "me agent /tmp"
    assert agentvm.text("exec", box, "--user", "root", "--", "id", "-u") == "0\n"


def test_exec_reads_standard_input_to_its_end(agentvm, box):
    every_byte = bytes(range(256)) * 33
    assert agentvm.run("exec", box, "--", "cat", stdin=every_byte).stdout == every_byte


def test_a_large_stream_has_the_right_digest(agentvm, box):
    block = hashlib.shake_256(b"agentvm").digest(1 << 20)
    wanted, seen = hashlib.sha256(), hashlib.sha256()
    client = agentvm.popen("exec", box, "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def write():
        for _ in range(STREAM_BYTES >> 20):
            client.stdin.write(block)
            wanted.update(block)
        client.stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    count = 0
    while chunk := client.stdout.read(1 << 20):
        seen.update(chunk)
        count += len(chunk)
    writer.join()
    assert client.wait(60) == 0
    assert count == STREAM_BYTES and seen.digest() == wanted.digest()


def test_exec_with_a_terminal_has_a_size_that_follows(agentvm, box):
    # A signal between two commands of a shell waits until something ends: a shell that waits for a line would keep it.
    script = "trap 'echo told; stty size' WINCH; tty; stty size; for i in $(seq 600); do sleep 0.1; [ ! -e /tmp/enough ] || exit 0; done; exit 1"
    terminal = agentvm.spawn("exec", "--tty", box, "--", "sh", "-c", script, size=(33, 101))
    terminal.expect(r"/dev/pts/\d+")
    terminal.expect_exact("33 101")
    terminal.setwinsize(20, 60)
    terminal.expect_exact("told")
    terminal.expect_exact("20 60")
    agentvm.exec(box, "touch", "/tmp/enough")
    assert harness.exit_status(terminal) == 0


def test_a_terminal_passes_ctrl_c_to_the_guest(agentvm, box):
    # What is typed may be echoed here and there before anything runs, and a shell drops an interrupt that comes between
    # its start and the command's: the number is the command's own.
    terminal = agentvm.spawn("exec", "--tty", box, "--", "cat", "-n")
    terminal.sendline("ready")
    terminal.expect_exact("1\tready\r\n")
    terminal.sendintr()
    assert harness.exit_status(terminal) == 128 + signal.SIGINT


def test_workspace_is_the_repository(agentvm, box, repository):
    assert agentvm.exec(box, "git", "-C", "/workspace", "rev-parse", "HEAD").strip() == harness.git(repository, "rev-parse", "HEAD")
    assert agentvm.exec(box, "git", "-C", "/workspace", "branch", "--show-current").strip() == "main"
    assert agentvm.exec(box, "git", "-C", "/workspace", "status", "--porcelain") == ""
    assert agentvm.exec(box, "stat", "-c", "%U", "/workspace").strip() == "agent"


def test_the_guest_is_what_a_developer_expects(agentvm, box):
    programs = "git tmux rsync curl rg less vi python3 gcc make sudo apt systemctl journalctl direnv"
    script = f"for p in {programs}; do command -v $p >/dev/null || echo $p; done"
    assert agentvm.exec(box, "sh", "-c", script) == ""
    assert agentvm.exec(box, "sudo", "-n", "id", "-u") == "0\n"
    assert agentvm.exec(box, "sudo", "systemctl", "is-system-running", code=(0, 1)).strip() in ("running", "degraded", "starting")


def test_sync_of_nothing_new_is_up_to_date(agentvm, box, repository):
    tip = harness.git(repository, "rev-parse", "HEAD")
    report = agentvm.json("sync", box)
    assert report["result"] == "up-to-date"
    assert harness.git(repository, "rev-parse", "HEAD") == tip


def test_a_commit_made_inside_comes_out(agentvm, box, repository):
    before = harness.git(repository, "rev-parse", "HEAD")
    tip = harness.commit_inside(agentvm, box, "NOTES", "from the guest\n")
    preview = agentvm.json("sync", box, "--dry-run")
    assert preview["new_tip"] == tip and harness.git(repository, "rev-parse", "HEAD") == before
    report = agentvm.json("sync", box)
    assert (report["result"], report["old_tip"], report["new_tip"], report["commits"]) == ("updated", before, tip, 1)
    assert harness.git(repository, "rev-parse", "HEAD") == tip
    assert (repository / "NOTES").read_text() == "from the guest\n"
    assert harness.git(repository, "status", "--porcelain") == ""
    assert tip in harness.git(repository, "for-each-ref", "--format=%(objectname)", f"refs/agentvm/{box}/")


def test_a_few_commits_come_without_git_in_the_guest(agentvm, box, repository):
    program = "/usr/bin/git-upload-pack"
    agentvm.exec(box, "sudo", "mv", program, f"{program}.away")
    try:
        tip = harness.commit_inside(agentvm, box, "SMALL", "read object by object\n")
        assert agentvm.json("sync", box)["new_tip"] == tip
        assert (repository / "SMALL").read_text() == "read object by object\n"
        # What is in a pack is git's to send, and it cannot.
        tip = harness.commit_inside(agentvm, box, "PACKED", "in a pack\n")
        agentvm.exec(box, "git", "-C", "/workspace", "repack", "-adq")
        refused = agentvm.run("sync", box, code=3)
        assert b"git-upload-pack" in refused.stderr, refused.stderr
    finally:
        agentvm.exec(box, "sudo", "mv", f"{program}.away", program)
    assert agentvm.json("sync", box)["new_tip"] == tip
    harness.git(repository, "fsck", "--strict")


def test_a_diverged_branch_is_a_decision(agentvm, box, repository):
    inside = harness.commit_inside(agentvm, box, "GUEST", "guest\n")
    (repository / "HOST").write_text("host\n")
    harness.git(repository, "add", "HOST")
    harness.git(repository, "commit", "-q", "-m", "On the host")
    tip = harness.git(repository, "rev-parse", "HEAD")
    result = agentvm.run("sync", box, code=6)
    assert b"git " in result.stderr or b"git " in result.stdout
    assert agentvm.json("sync", box, code=6)["result"] == "diverged"
    assert harness.git(repository, "rev-parse", "HEAD") == tip
    assert inside in harness.git(repository, "for-each-ref", "--format=%(objectname)", f"refs/agentvm/{box}/")
    harness.git(repository, "reset", "-q", "--hard", "HEAD~1")
    assert agentvm.json("sync", box)["result"] == "updated"
    assert harness.git(repository, "rev-parse", "HEAD") == inside


def attach(agentvm, box, size=(24, 80)):
    terminal = agentvm.spawn("attach", box, size=size)
    terminal.sendline("clear; echo ready$((1+1))")
    terminal.expect_exact("ready2")
    return terminal


def detach(terminal):
    terminal.send("\x02d")
    assert harness.exit_status(terminal) == 0


def test_attach_survives_detaching_and_resizes(agentvm, box):
    terminal = attach(agentvm, box)
    terminal.sendline("mark=$((6*7)); echo set$mark")
    terminal.expect_exact("set42")
    terminal.setwinsize(31, 97)
    # tmux keeps a line for its status.
    terminal.sendline("sleep 1; echo size=$(stty size)")
    terminal.expect(r"size=(3[01]) 97")
    detach(terminal)
    terminal = attach(agentvm, box)
    terminal.sendline("echo still$mark")
    terminal.expect_exact("still42")
    detach(terminal)


def test_attach_comes_back_when_the_manager_is_killed(agentvm, box):
    terminal = attach(agentvm, box)
    terminal.sendline("mark=$((40+3)); echo set$mark")
    terminal.expect_exact("set43")
    killed = agentvm.manager_pid()
    os.kill(killed, signal.SIGKILL)
    terminal.expect_exact("attaching again")
    terminal.expect_exact("set43")  # tmux draws the screen again
    terminal.sendline("echo still$mark")
    terminal.expect_exact("still43")
    assert agentvm.manager_pid() != killed
    detach(terminal)


def test_ssh_and_ssh_config(agentvm, box, home):
    assert agentvm.run("ssh", box, "--", "id -un").stdout == b"agent\n"
    agentvm.run("ssh", box, "--", "exit 9", code=9)
    stanza = agentvm.text("ssh-config", box)
    alias = re.search(r"^Host (\S+)", stanza, re.MULTILINE).group(1)
    assert "StrictHostKeyChecking yes" in stanza
    config = home.folder / "ssh_config"
    config.write_text(stanza)
    command = ["ssh", "-F", str(config), "-o", "BatchMode=yes", alias, "hostname"]
    assert subprocess.run(command, env=home.environment(), capture_output=True, timeout=60, check=True).stdout.strip() == box.encode()


def test_an_editor_comes_in_as_ssh_does(agentvm, box, home):
    """What a Remote-SSH editor does: its own program calls the user's ssh, then copies a server over and forwards a port to it."""
    programs = home.folder / "programs"
    programs.mkdir()
    editor = programs / "code"
    editor.write_text('#!/bin/sh\necho "$@"\nhost=${2#ssh-remote+}\nssh -F "$HOME/.ssh/config" -o BatchMode=yes "$host" "cd $3 && pwd"\n')
    editor.chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    config = home.folder / "home" / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    real = home.folder / "dotfiles"  # where people keep it, and link to
    real.write_text("Host elsewhere\n  User somebody\n")
    real.chmod(0o640)
    config.symlink_to(real)
    # OpenSSH takes the home folder of the account, not of HOME: a wrapper stands for a login as this home's user.
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "$HOME/.ssh/config" "$@"\n')
    ssh.chmod(0o755)
    agentvm.run("open-vscode", box, "--editor", "no-such-editor", code=4)
    refused = agentvm.run("open-vscode", box, env=path, code=6)
    assert b"--write-ssh-config" in refused.stderr and real.read_text().startswith("Host elsewhere")
    opened = agentvm.run("open-vscode", box, "--write-ssh-config", env=path)
    assert opened.stdout.decode().splitlines() == [f"--remote ssh-remote+agentvm-{box} /workspace", "/workspace"]
    assert config.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert real.read_text().startswith("Include ") and real.read_text().endswith("\n\nHost elsewhere\n  User somebody\n")
    again = agentvm.run("open-vscode", box, env=path)
    assert b"added" not in again.stderr and real.read_text().count("Include") == 1
    (home.folder / "copied").write_text("a server of an editor")
    copy = ["scp", "-q", "-F", str(config), str(home.folder / "copied"), f"agentvm-{box}:/tmp/copied"]
    subprocess.run(copy, env=home.environment(), timeout=60, check=True)
    assert agentvm.exec(box, "cat", "/tmp/copied") == "a server of an editor"
    batch = subprocess.run(["sftp", "-q", "-F", str(config), "-b", "-", f"agentvm-{box}"], input=b"ls /tmp/copied\n", env=home.environment(),
                           capture_output=True, timeout=60, check=True)
    assert b"/tmp/copied" in batch.stdout
    agentvm.run("exec", box, "--detach", "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/tmp", "8931")
    harness.eventually(lambda: agentvm.run("exec", box, "--", "curl", "-fsS", "http://127.0.0.1:8931/copied", code=None).returncode == 0, 30, "the server listens")
    through = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-W", "127.0.0.1:8931", f"agentvm-{box}"]
    answer = subprocess.run(through, input=b"GET /copied HTTP/1.0\r\n\r\n", env=home.environment(), capture_output=True, timeout=60, check=True)
    assert answer.stdout.endswith(b"a server of an editor")
    agentvm.run("exec", box, "--", "pkill", "-f", "[h]ttp.server")


def test_logs_show_the_console_cleaned_and_the_manager(agentvm, box):
    agentvm.exec(box, "sudo", "sh", "-c", r"printf 'on the console \033]0;title\007\n' >/dev/ttyS0")
    log = harness.eventually(lambda: next((l for l in agentvm.text("logs", box, "--boot").splitlines() if "on the console" in l), None))
    assert "\033" not in log and "\007" not in log
    assert box in agentvm.text("logs", "--manager")


def test_what_is_put_into_tmp_right_after_the_start_stays(agentvm, box):
    # sshd is up long before systemd-tmpfiles, which empties /tmp where nobody keeps it from that.
    agentvm.exec(box, "sh", "-c", "echo mine >/tmp/mine && sudo systemd-tmpfiles --boot --create --remove --prefix=/tmp")
    assert agentvm.exec(box, "cat", "/tmp/mine") == "mine\n"


def test_stop_then_start_keeps_the_disk(agentvm, box, repository):
    agentvm.exec(box, "sh", "-c", "echo kept >/var/tmp/kept; echo uncommitted >/workspace/wip; mkdir -p /tmp/deep/er; echo >/tmp/deep/er/file")
    machine = agentvm.exec(box, "cat", "/etc/machine-id")
    agentvm.run("stop", box, timeout=120)
    assert agentvm.json("status", box)["state"] == "stopped"
    agentvm.run("exec", box, "--", "true", code=125)
    agentvm.run("sync", box, code=2)
    agentvm.run("stop", box, code=(0, 2))
    started = agentvm.run("start", repository, "--name", box, "--workspace", "disk", "--no-attach", timeout=harness.START_SECONDS)
    assert b"workspace mode stays virtiofs" in started.stderr, "a sandbox that ran is not made anew"
    assert agentvm.exec(box, "cat", "/var/tmp/kept") == "kept\n"
    assert agentvm.exec(box, "sh", "-c", "test -e /tmp/deep || stat -c %a /tmp") == "1777\n"
    assert agentvm.exec(box, "cat", "/workspace/wip") == "uncommitted\n"
    assert agentvm.exec(box, "cat", "/etc/machine-id") == machine


def test_destroy_asks_and_then_leaves_nothing(agentvm, box, home, repository):
    assert b"--force" in agentvm.run("destroy", box, code=64).stderr  # off a terminal nobody can be asked
    terminal = agentvm.spawn("destroy", box)
    terminal.expect("Destroy")
    terminal.sendline("n")
    assert harness.exit_status(terminal) == 5
    assert agentvm.json("status", box)["state"] == "running"
    agentvm.run("destroy", box, "--force")
    assert agentvm.sandboxes() == []
    agentvm.run("status", box, code=1)
    assert not list((home.state / "sandboxes").glob("*"))
    assert not harness.processes(home, "qemu") and not harness.processes(home, "virtiofsd")
    assert harness.git(repository, "fsck", "--no-dangling") == ""
