"""Build products from a real guest: what comes, what waits for its user, what never comes. One guest for the whole file."""

import os
import signal
import subprocess
import threading
import time

import pytest

import harness

NAME = "build"


@pytest.fixture(scope="module")
def repository(home):
    return harness.make_repository(home.folder / "project", {"a.txt": "one\n", "dist/kept.js": "committed\n", ".gitignore": "out/\n"})


@pytest.fixture(scope="module")
def box(agentvm, repository):
    agentvm.start(repository, NAME)
    return NAME


def inside(agentvm, script):
    agentvm.exec(NAME, "sh", "-ec", f"cd /workspace; {script}")


def bring(agentvm, *options, code=0):
    return agentvm.json("sync", NAME, *options, "--artifacts", code=code)


def test_build_folders_come_and_only_what_is_new(agentvm, box, repository):
    inside(agentvm, "mkdir -p out/deep; echo code >out/app.js; printf '#!/bin/sh\\n' >out/deep/tool; chmod 6755 out/deep/tool; ln -s app.js out/latest")
    dry = bring(agentvm, "--dry-run")
    assert (dry["result"], dry["files"]) == ("updated", 2) and not (repository / "out").exists()
    result = bring(agentvm)
    assert (result["result"], result["files"], result["links"], result["unchanged"]) == ("updated", 2, 1, 1)  # dist/kept.js is the same
    assert (repository / "out" / "app.js").read_text() == "code\n" and os.readlink(repository / "out" / "latest") == "app.js"
    assert (repository / "out" / "deep" / "tool").stat().st_mode & 0o7100 == 0o100
    assert bring(agentvm)["result"] == "up-to-date"
    inside(agentvm, "echo more >>out/app.js; rm out/deep/tool")
    result = bring(agentvm)
    assert (result["files"], (repository / "out" / "app.js").read_text()) == (1, "code\nmore\n")
    assert (repository / "out" / "deep" / "tool").exists()
    assert harness.git(repository, "status", "--porcelain") == ""


def test_what_git_has_or_the_gate_lists_waits(agentvm, box, repository):
    inside(agentvm, "echo evil >dist/kept.js; echo '{}' >dist/package.json; echo new >dist/new.js")
    shown = agentvm.run("sync", box, "--artifacts", code=6).stdout.decode()
    assert "tracked: dist/kept.js" in shown and "package-script: dist/package.json" in shown and "--artifacts --accept" in shown
    assert (repository / "dist" / "kept.js").read_text() == "committed\n" and not (repository / "dist" / "new.js").exists()
    inside(agentvm, "echo x >dist/.envrc")  # while its user reads
    assert bring(agentvm, "--accept", code=6)["gated"] == [{"path": "dist/.envrc", "kind": "shell-environment"}]
    assert bring(agentvm, "--accept")["files"] == 4
    assert (repository / "dist" / "kept.js").read_text() == "evil\n"
    harness.git(repository, "checkout", "dist/kept.js")
    inside(agentvm, "git checkout -q dist/kept.js; rm dist/.envrc dist/package.json dist/new.js")


def test_other_paths_and_another_folder(agentvm, box, home, repository):
    inside(agentvm, "mkdir -p packages/one/dist packages/two/lib; echo 1 >packages/one/dist/x; echo 2 >packages/two/lib/y")
    target = home.folder / "elsewhere"
    result = agentvm.json("sync", box, "--to", target, "--artifacts", "packages/*/lib", "./packages/one/")
    assert (result["files"], result["destination"]) == (2, str(target))
    assert (target / "packages" / "two" / "lib" / "y").read_text() == "2\n" and not (repository / "packages").exists()
    agentvm.run("sync", box, "--artifacts", "../etc", code=64)
    agentvm.run("sync", box, "--artifacts", "--to", home.state / "sandboxes" / box / "workspace", code=64)
    agentvm.run("sync", box, "--artifacts", "--to", repository / ".git" / "hooks", code=64)
    agentvm.run("sync", box, "--to", target, code=64)


def test_what_is_no_build_product_never_comes(agentvm, box, home, repository):
    inside(agentvm, "mkdir -p out/.git/hooks out/.GIT; echo x >out/.git/hooks/pre-commit; echo x >out/.GIT/config; mkfifo out/pipe; "
                    "ln -s /etc/passwd out/etc; ln -s ../../outside out/up; printf x >\"out/$(printf 'a\\033[2Jb')\"")
    output = agentvm.run("sync", box, "--artifacts").stdout
    assert b"\x1b" not in output and output.count(b"left out") == 5  # .git itself is not even looked at
    names = {path.name for path in (repository / "out").rglob("*")}
    assert names == {"app.js", "deep", "tool", "latest"}
    inside(agentvm, "rm -rf out/.git out/.GIT out/pipe out/etc out/up out/a*")


def test_a_race_on_both_sides_touches_nothing_outside(agentvm, box, home, repository):
    """The guest exchanges files for links while they are sent, the host's tree is exchanged for a link while they are written."""
    canary = home.folder / "canary"
    canary.mkdir()
    (canary / "file").write_text("canary")
    inside(agentvm, "mkdir -p out/race; for i in $(seq 300); do echo $i >out/race/$i; done")
    agentvm.run("exec", box, "--detach", "--", "sh", "-c",
                "cd /workspace/out; end=$(($(date +%s) + 12)); while [ $(date +%s) -lt $end ]; do mv race r; ln -s /etc race; echo x >r/1; rm race; mv r race; done")
    over = threading.Event()

    def exchange():
        race, away = repository / "out" / "race", repository / "out" / "away"
        while not over.is_set():
            try:
                os.rename(race, away)
                os.symlink(canary, race)
                os.unlink(race)
                os.rename(away, race)
            except OSError:
                time.sleep(0.001)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(4):
            agentvm.run("sync", box, "--artifacts", code=(0, 3))
            agentvm.run("exec", box, "--", "sh", "-c", "touch /workspace/out/race/* 2>/dev/null; true")
    finally:
        over.set()
        thread.join()
    assert [path.name for path in canary.iterdir()] == ["file"] and (canary / "file").read_text() == "canary"


def test_limits_end_it_and_a_signal_does(agentvm, box, home, repository):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    before = config.read_text()
    inside(agentvm, "rm -rf out/race; truncate -s 3G out/big; head -c 30000000 /dev/urandom >out/random")
    config.write_text(before + "artifacts:\n  limits:\n    bytes: 1G\n")
    assert b"artifacts.limits.bytes" in agentvm.run("sync", box, "--artifacts", code=3).stderr
    config.write_text(before)
    process = agentvm.popen("sync", box, "--artifacts", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 5)
    assert bring(agentvm)["result"] in ("updated", "up-to-date")
    big = (repository / "out" / "big").stat()
    assert big.st_size == 3 << 30 and big.st_blocks * 512 < 1 << 20  # holes stay holes
    assert not (repository / ".agentvm-artifact.part").exists()
