"""The parts that need no source package: the table, the reading of what scripts say, the verdict, the addresses of the shim."""

import os
import pathlib
import subprocess

import pytest

import run
import scripts
import source
import table

SHIM = pathlib.Path(__file__).resolve().parent / "shim/git"
TAP = """ok 1 - first
not ok 2 - second # three
#	what it did
ok 3 # skip third (missing PERL)
not ok 4 - known # {mark} known breakage
not ok 5 - fifth
1..5
""".replace("{mark}", "TO" + "DO")  # in one word it would be a mark of this file


def test_the_table_is_whole():
    reasons, rows = table.load()
    assert len(rows) > 20 and all(why.strip() for why in reasons.values())


@pytest.mark.parametrize("text, word", [
    ("t5510-fetch\n  tags: 1\n", "no reason is called tags"),
    ("reason a = b\nt5510-fetch\n  a: 1-3 2 3\nt5510-fetch\n", "stands twice"),
    ("reason a = b\nreason c = d\nt5510-fetch\n  a: 1-3\n  c: 3\n", "case 3 stands twice"),
    ("reason a = b\n  a: 1\n", "not understood"),
    ("reason a = b\nt5510-fetch\n  a: 3-1\n", "no range"),
    ("t5510\n", "not understood"),
])
def test_a_wrong_table_is_refused(text, word):
    with pytest.raises(table.TableError, match=word):
        table.parse(text)


def test_what_a_script_says_is_read():
    cases = scripts.read_cases(TAP)
    assert {number: verdict for number, (verdict, _) in cases.items()} == {1: "passed", 2: "failed", 3: "skipped", 4: "skipped", 5: "failed"}
    assert cases[2][1].startswith("second")


def outcome(**changes):
    values = {"titles": {1: "a", 2: "b"}, "passed": {1, 2}, "failed": set(), "skipped": set(), "used": {1}, "problem": "", "text": ""}
    return scripts.Outcome(**(values | changes))


def test_the_verdict():
    assert run.judge("t1", {}, outcome()) == []
    assert run.judge("t1", {}, outcome(passed={1}, failed={2})) == ["t1: case 2 fails: b"]
    # A left-out case runs with plain git: that it fails there is news as well.
    assert run.judge("t1", {2: "tags"}, outcome(passed={1}, failed={2})) == ["t1: case 2 fails: b"]
    assert "there are not: [7]" in run.judge("t1", {7: "tags"}, outcome())[0]
    assert run.judge("t1", {}, outcome(used=set())) == ["t1: the helper was never asked"]
    assert run.judge("t1", {}, outcome(problem="ended early: x")) == ["t1: ended early: x"]


def test_a_script_that_fails_is_seen(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t0001-x.sh").write_text('test_count=1; git-remote-agentvm; echo "ok 1 - one"; echo "1..1"; test_count=2; git-remote-agentvm; exit 1\n')
    (tmp_path / "t/t0002-y.sh").write_text('echo "ok 1 - one"; echo "FATAL: gone"\n')
    (tmp_path / "prefix/bin").mkdir(parents=True)
    (tmp_path / "prefix/bin/git-remote-agentvm").symlink_to("/bin/true")
    runner = scripts.Runner(tmp_path / "work", tmp_path, tmp_path / "prefix", "git")
    environment = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{SHIM.parent}:{environment}"
        said = runner.run("t0001-x", ())
    finally:
        os.environ["PATH"] = environment
    assert (said.passed, said.used, said.problem) == ({1}, {1, 2}, "")
    assert runner.run("t0002-y", ()).problem == "ended early: FATAL: gone"


def test_sources_of_the_installed_packages():
    assert source.source_lines("http://a/ |stable|main\nhttp://a/ |stable|main\nbroken\n") == "deb-src http://a/  stable main\n"


def shim(tmp_path, *arguments, direct=""):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GITSUITE_GIT": "git", "GITSUITE_DIRECT": direct, "test_count": "4"}
    return subprocess.run([SHIM, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout


def test_addresses(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for address, seen in (("../x", "agentvm::../x"), ("file:///x", "agentvm::file:///x"), ("ssh://h/x", "ssh://h/x"), ("testgit::x", "testgit::x")):
        subprocess.run(["git", "config", "remote.r.url", address], cwd=tmp_path, check=True)
        assert shim(tmp_path, "ls-remote", "--get-url", "r") == f"{seen}\n"
        assert shim(tmp_path, "remote", "get-url", "--push", "r") == f"{address}\n"
        assert shim(tmp_path, "ls-remote", "--get-url", "r", direct="3 4") == f"{address}\n"
