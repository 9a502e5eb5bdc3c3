"""`./bootstrap install` puts down what works by itself, and `uninstall` takes all of it away."""

import os
import pathlib
import shutil
import subprocess

import pytest

import harness


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return tmp_path_factory.mktemp("prefix") / "a b"


def bootstrap(*arguments, **options):
    return subprocess.run([str(harness.ROOT / "bootstrap"), *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False, **options)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_installed_it_works_from_anywhere_and_uninstalled_it_is_gone(prefix, home, tmp_path):
    foreign = prefix / "share" / "man" / "man1" / "other.1"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(".TH OTHER 1\n")
    done = bootstrap("install", "--prefix", prefix)
    assert done.returncode == 0, done.stderr
    installed = files(prefix)
    for name in ("bin/agentvm", "bin/git-remote-agentvm", "libexec/agentvm/agentvm-manager", "libexec/agentvm/agentvm-guest", "share/man/man1/agentvm.1", "share/man/man5/agentvm.yaml.5",
                 "share/bash-completion/completions/agentvm", "share/zsh/site-functions/_agentvm", "share/fish/vendor_completions.d/agentvm.fish"):
        assert name in installed

    # Nothing of it looks back into the build folder: a copy elsewhere serves as well.
    moved = tmp_path / "moved"
    shutil.copytree(prefix, moved)
    client = harness.Agentvm(home, binary=moved / "bin" / "agentvm")
    assert client.json("list")["schema"] == "agentvm.list/1"
    exe = pathlib.Path(f"/proc/{client.manager_pid()}/exe")
    assert os.readlink(exe) == str(moved / "libexec" / "agentvm" / "agentvm-manager")
    client.run("manager", "stop")

    again = bootstrap("install", f"--prefix={prefix}")
    assert again.returncode == 0 and files(prefix) == installed, "a second time changes nothing"
    gone = bootstrap("uninstall", "--prefix", prefix)
    assert gone.returncode == 0, gone.stderr
    assert files(prefix) == ["share/man/man1/other.1"]
    assert bootstrap("uninstall", "--prefix", prefix).returncode == 1


def test_a_manifest_that_leads_elsewhere_is_refused(prefix, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    manifest = prefix / "share" / "agentvm" / "install_manifest.txt"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for line in (str(victim), f"{prefix}/../victim", f"{prefix}/share/../../victim"):
        manifest.write_text(line + "\n")
        (prefix.parent / "victim").write_text("kept")
        assert bootstrap("uninstall", "--prefix", prefix).returncode == 3
        assert victim.read_text() == "kept" and (prefix.parent / "victim").read_text() == "kept"


@pytest.mark.parametrize("page,names", [
    ("--man", ("agentvm start", "agentvm trust", "agentvm config schema", "EXIT STATUS", "AGENTVM_HOME", "--dry-run", "agentvm.yaml(5)")),
    ("--man-configuration", ("workspace.mode", "256M to 16T", "widening", "default virtiofs", "AGENTVM_MEMORY", "~/.config/agentvm/config.yaml")),
])
def test_the_man_pages_are_such_that_man_takes(agentvm, page, names):
    page = agentvm.run("help", page).stdout
    if not shutil.which("groff"):
        pytest.skip("groff is not installed (package groff-base)")
    shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, check=True)
    assert shown.stderr == b""
    text = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou"], input=page, capture_output=True, check=True).stdout.decode()
    text = " ".join(text.split())
    for name in names:
        assert name in text
