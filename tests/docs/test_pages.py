"""The checks of the documentation find what they are there for. The program is the built one: AGENTVM_BUILD."""

import os
import pathlib
import subprocess

import pytest

import check_pages
import check_reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ["AGENTVM_BUILD"]


@pytest.fixture(scope="module")
def programs():
    return check_pages.Programs(ROOT, BUILD)


@pytest.mark.parametrize(
    "line",
    ["agentvm start", "build/bin/agentvm start . --no-attach", "NO_COLOR=1 agentvm status --json", "agentvm exec box -- frobnicate --hard",
     "agentvm image build", "./bootstrap test --full", "agentvm --version", "git status", "agentvm status mybox"],
)
def test_real_commands_pass(programs, line):
    assert programs.judge(line) is None


@pytest.mark.parametrize("line", ["agentvm frobnicate", "agentvm start --frobnicate", "./bootstrap frobnicate", "sudo agentvm frobnicate now"])
def test_invented_commands_do_not(programs, line):
    assert programs.judge(line)


def test_commands_are_found_in_blocks_and_lines():
    text = "a\n```sh\nagentvm start  # now\n```\n\n```\n$ agentvm stop\nstopped\n```\nuse `agentvm sync` and `git log`\n"
    assert list(check_pages.commands_in(text)) == ["agentvm start", "agentvm stop", "agentvm sync"]


def test_links_are_followed(tmp_path):
    (tmp_path / "b.md").write_text("# Some Heading\n")
    good, bad = "[x](b.md#some-heading) [y](b.md) [z](https://example.invalid/)", "[x](b.md#other) [y](c.md)"
    assert not list(check_pages.bad_links(tmp_path / "a.md", good))
    assert len(list(check_pages.bad_links(tmp_path / "a.md", bad))) == 2


def test_drift_is_seen(tmp_path):
    assert check_reference.check(tmp_path, BUILD)  # nothing there
    assert check_reference.check(tmp_path, BUILD, write=True) == []
    page = tmp_path / "docs" / "reference" / "configuration.md"
    page.write_text(page.read_text().replace("|", "||", 1))
    assert any("configuration.md" in line for line in check_reference.check(tmp_path, BUILD))


def test_generated_pages_are_substantial():
    for name, command in check_reference.pages(BUILD).items():
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "# " in printed and len(printed.splitlines()) > 10, name
