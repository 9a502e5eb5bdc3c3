"""Each check must find what it is there for: small trees that keep the rules, and the same trees with one rule broken."""

import json
import pathlib
import shutil
import subprocess

import pytest

import check_commits
import check_format
import check_groups
import check_includes
import check_nix
import check_sizes
import check_text
import check_tidy

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ["vmm/base/error.hpp", "vmm/base/fd.hpp", "vmm/base/files.hpp", "vmm/hypervisor.hpp", "vmm/libvirt/domain.hpp", "guest/streams.hpp", "guest/readiness.hpp", "guest/protocol/frame.hpp",
           "guest/agent/server.hpp",
           "sync/plan.hpp", "proxy/route.hpp", "cli/table.hpp"]


@pytest.fixture
def put(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


@pytest.fixture
def tree(tmp_path, put):
    for header in HEADERS:
        put(header, "#pragma once\n")
    return tmp_path


@pytest.mark.parametrize(
    "source, include, allowed",
    [
        ("vmm/base/a.cpp", '"vmm/base/error.hpp"', True),
        ("vmm/base/a.cpp", '"vmm/hypervisor.hpp"', False),
        ("vmm/base/a.cpp", '"guest/streams.hpp"', False),
        ("vmm/a.cpp", '"vmm/base/error.hpp"', True),
        ("vmm/a.cpp", '"guest/streams.hpp"', False),
        ("guest/a.cpp", '"vmm/hypervisor.hpp"', True),
        ("guest/a.cpp", '"vmm/libvirt/domain.hpp"', False),
        ("guest/agent/a.cpp", '"vmm/base/error.hpp"', True),
        ("guest/agent/a.cpp", '"vmm/hypervisor.hpp"', False),
        ("guest/agent/a.cpp", '"guest/protocol/frame.hpp"', True),
        ("guest/agent/a.cpp", '"guest/streams.hpp"', False),
        ("guest/protocol/a.cpp", '"guest/agent/server.hpp"', False),
        ("guest/a.cpp", '"sync/plan.hpp"', False),
        ("sync/a.cpp", '"guest/streams.hpp"', True),
        ("sync/a.cpp", '"guest/readiness.hpp"', False),
        ("sync/a.cpp", '"vmm/hypervisor.hpp"', False),
        ("sync/a.cpp", '"proxy/route.hpp"', False),
        ("proxy/a.cpp", '"guest/streams.hpp"', True),
        ("proxy/a.cpp", '"sync/plan.hpp"', False),
        ("cli/a.cpp", '"sync/plan.hpp"', True),
        ("vmm/a.cpp", '"cli/table.hpp"', False),
        ("vmm/a.cpp", '"hypervisor.hpp"', False),  # not from the root
        ("vmm/libvirt/a.cpp", "<libvirt/libvirt.h>", True),
        ("vmm/a.cpp", "<libvirt/libvirt.h>", False),
        ("guest/ssh/a.cpp", "<libssh/libssh.h>", True),
        ("sync/git/a.cpp", "<libssh/libssh.h>", False),
        ("sync/git/a.cpp", "<git2.h>", True),
        ("cli/a.cpp", "<git2.h>", False),
        ("cli/a.cpp", "<git2/sys/repository.h>", False),
        ("vmm/base/yaml.cpp", "<yaml-cpp/yaml.h>", True),
        ("vmm/base/json.cpp", "<yaml-cpp/yaml.h>", False),
        ("cli/manager/a.cpp", "<boost/asio/post.hpp>", True),
        ("cli/a.cpp", "<boost/asio/post.hpp>", False),
        ("proxy/a.cpp", "<boost/beast/http.hpp>", True),
        ("tests/unit/a.cpp", "<libssh/server.h>", True),
    ],
)
def test_include_table(tree, put, source, include, allowed):
    put(source, f"#include {include}\n")
    findings = check_includes.check(tree)
    assert (findings == []) == allowed, findings


def test_every_code_layer_has_a_row():
    assert set(check_includes.ALLOWED) == {"vmm/base", "vmm", "guest", "sync", "proxy"}


def test_size_ratchet(tree, put):
    assert check_sizes.check(tree) == []
    put("cli/long.cpp", "int x;\n" * 601)
    assert any("601 lines" in f for f in check_sizes.check(tree))
    put("cli/long.cpp", "int x;\n" * 600)
    assert check_sizes.check(tree) == []
    put("cli/longer.cpp", "int x;\n" * 351)  # the second over 350 among twelve files
    assert any("over 350" in f for f in check_sizes.check(tree))


def test_size_median(tree, put):
    for i in range(30):
        put(f"cli/f{i}.cpp", "int x;\n" * 121)
    assert any("median" in f for f in check_sizes.check(tree))


ONE = "namespace {\n%s\n}  // namespace\n"


@pytest.mark.parametrize(
    "own, other, allowed",
    [
        ("void refuse(const char* why) {}", 'void g() { refuse("x"); }', False),
        ("void refuse(const char* why) {}", 'void g() { base::refuse("x"); it.refuse(); to->refuse(); }', True),
        ("void refuse(const char* why) {}", "// refuse(1)\n", True),
        ("void refuse(const char* why) {}", 'const auto text = "refuse(1)";', True),
        ("template <class T>\nT pick(T value) {}", "int g() { return pick(1); }", False),
        ("struct Row {\n};", "Row g();", False),
        ("struct Row {\n};", "table::Row g();", True),
    ],
)
def test_grouped_files_keep_their_names_apart(tree, put, own, other, allowed):
    put("vmm/a.cpp", ONE % own)
    put("vmm/b.cpp", other)
    put("vmm/CMakeLists.txt", "agentvm_library(vmm\n  SOURCES a.cpp b.cpp\n  LINK x)\n")
    assert (check_groups.check(tree) == []) == allowed
    put("vmm/CMakeLists.txt", "agentvm_library(vmm\n  SOURCES a.cpp\n  ALONE b.cpp\n  LINK x)\n")
    assert check_groups.check(tree) == []
    put("vmm/CMakeLists.txt", "set(all a.cpp b.cpp)\nagentvm_library(vmm SOURCES ${all} LINK x)\n")
    assert (check_groups.check(tree) == []) == allowed


@pytest.mark.parametrize("source", ["missing.cpp", "${unknown}"])
def test_every_source_of_a_group_is_known(tree, put, source):
    put("vmm/a.cpp", "")
    put("vmm/CMakeLists.txt", f"agentvm_library(vmm SOURCES a.cpp {source} LINK x)\n")
    assert check_groups.check(tree)


def test_group_check_refuses_a_tree_without_groups(tree):
    assert check_groups.check(tree)


def test_size_check_refuses_an_empty_tree(tmp_path):
    assert check_sizes.check(tmp_path)


@pytest.mark.parametrize("line", ["// TO" + "DO: later", "# FIX" + "ME", "x X" + "XX y", "cd /wo" + "rk/main", "see mirror.corp.example/x"])
def test_text_check_finds(tree, put, line):
    put("docs/a.md", line + "\n")
    assert len(check_text.check(tree, hosts=["mirror.corp.example"])) == 1


def test_text_check_lets_guests_have_a_root(tree, put):
    put("guest/a.cpp", '"/ro' + 'ot/.profile"\n')
    put("docs/b.md", "mktemp a.XX" + "XXXX; a network/wo" + "rk/x; $HOME/wo" + "rk/\n")
    assert check_text.check(tree, hosts=[]) == []
    put("cli/a.cpp", '"/ro' + 'ot/.profile"\n')
    assert len(check_text.check(tree, hosts=[])) == 1


def test_mirror_hosts_come_from_the_machine(tmp_path):
    apt = tmp_path / "apt" / "sources.list.d"
    apt.mkdir(parents=True)
    (apt / "a.sources").write_text("URIs: http://user:secret@mirror.corp.example/debian\nURIs: http://deb.debian.org/x\n")
    (tmp_path / "npmrc").write_text("; https://old.corp.example/\nregistry=https://npm.corp.example:8443/\n")
    hosts = check_text.mirror_hosts(etc=str(tmp_path), home="/nonexistent", environment={"https_proxy": "http://proxy.corp.example:3128"})
    assert hosts == ["mirror.corp.example", "npm.corp.example", "proxy.corp.example"]


@pytest.mark.parametrize("subject", ["vmm: Add a port", "cli/manager: Seed the pool", "sync, guest: Say why a tip moved", ".ci: Keep logs"])
def test_good_subjects(subject):
    assert check_commits.judge(subject) is None


@pytest.mark.parametrize("subject", ["Add a port", "vmm: add a port", "vmm: Added a port", "vmm: Adds a port", "vmm: Fixing it", "vmm: Add it.",
                                     "vmm: " + "A" * 100])
def test_bad_subjects(subject):
    assert check_commits.judge(subject)


def test_format_check_finds_code_and_scripts(tree, put):
    shutil.copy(ROOT / ".clang-format", tree)
    assert check_format.check(tree) == []
    put("cli/a.cpp", "int  main( ){return 0;}\n")
    put("run", "#!/bin/sh\nfor f in $(ls *.txt); do echo $f; done\n")
    findings = check_format.check(tree)
    assert any(f.startswith("cli/a.cpp") for f in findings) and any(f.startswith("run:") for f in findings)


def test_tidy_finds_a_moved_value_and_remembers_the_clean_file(tree, put):
    shutil.copy(ROOT / ".clang-tidy", tree)
    put("cmake/pch.hpp", "#include <string>\n#include <utility>\n")
    put("cli/good.cpp", "int answer() { return 42; }\n")
    put("cli/bad.cpp", "#include <string>\nvoid take(std::string);\nauto f(std::string s) { take(std::move(s)); return s.size(); }\n")
    put("cli/name.cpp", "int BadlyNamed() { return 1; }\n")
    build = tree / "build"
    build.mkdir()
    names = ["cli/good.cpp", "cli/bad.cpp", "cli/name.cpp"]
    commands = [{"directory": str(build), "command": f"c++ -std=c++20 -c {tree}/{name}", "file": f"{tree}/{name}"} for name in names]
    (build / "compile_commands.json").write_text(json.dumps(commands))
    for _ in range(2):  # the second run must find the same again
        findings = check_tidy.check(tree, build, "0")
        assert len(findings) == 2, findings
        assert "use-after-move" in findings[0] and "identifier-naming" in findings[1]
    assert len(list((build / "style" / "tidy").glob("*.clean"))) == 1


def test_tracked_and_new_files_count_and_ignored_ones_do_not(tree, put):
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    put(".gitignore", "build/\n")
    put("build/x.cpp", "int x;\n" * 700)
    assert check_sizes.check(tree) == []
    put("cli/x.cpp", "int x;\n" * 700)
    assert len([f for f in check_sizes.check(tree) if f.startswith("cli/x.cpp: 700")]) == 1


@pytest.fixture
def nix_tree(tree):
    shutil.copytree(ROOT / "nix", tree / "nix")
    (tree / "cmake").mkdir()
    shutil.copy(ROOT / "cmake" / "dependencies.cmake", tree / "cmake")
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    return tree


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("package.nix", "stdenv.mkDerivation {", "stdenv.mkDerivation {{"),  # does not parse
        ("package.nix", "  zlib,\n", ""),  # a name that is used and not asked for
        ("package.nix", "  zlib,\n", "  zlib-ng,\n  zlib,\n"),  # a name that the set does not have
        ("package.nix", "libssh libvirt", "libvirt"),  # a library of CMake's left out
        ("flake.nix", "default = agentvm;", "default = agentvm // { version = null; };"),
    ],
)
def test_nix_check_finds(nix_tree, name, old, new):
    assert check_nix.check(nix_tree) == []
    path = nix_tree / "nix" / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    assert check_nix.check(nix_tree)
