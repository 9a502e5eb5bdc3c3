"""The runner tells a guarded defence from an unguarded one, on a tree small enough to build in a moment."""

import subprocess

import pytest

import check
import patches as patching
import run

CMAKE = """cmake_minimum_required(VERSION 3.25)
project(small LANGUAGES NONE)
enable_testing()
add_custom_target(door COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/door.txt ${CMAKE_BINARY_DIR}/door.txt
  COMMAND sh -c "! grep -q unbuildable ${CMAKE_SOURCE_DIR}/door.txt" VERBATIM)
add_test(NAME unit.door COMMAND grep -q locked ${CMAKE_BINARY_DIR}/door.txt)
add_test(NAME unit.window COMMAND true)
"""


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    (root / "tests" / "mutation").mkdir(parents=True)
    (root / "CMakeLists.txt").write_text(CMAKE)
    (root / "door.txt").write_text("first\nlocked\nlast\n")
    build = root / "build"
    subprocess.run(["cmake", "-G", "Ninja", "-S", root, "-B", build, "-DAGENTVM_WERROR=ON"], check=True, capture_output=True)
    return root


def patch(root, name="14-door", old="locked", new="open", row=14, tests="unit.door", targets="door", extra=""):
    text = f"# row: {row}\n# tests: {tests}\n# targets: {targets}\n{extra}--- a/door.txt\n+++ b/door.txt\n@@ -1,3 +1,3 @@\n first\n-{old}\n+{new}\n last\n"
    (root / "tests" / "mutation" / f"{name}.patch").write_text(text)


def outcome(root, **options):
    return run.run(root, root / "build", keep=True, **options)


def test_a_guarded_defence_is_noticed_and_the_tree_untouched(tree):
    patch(tree)
    assert outcome(tree) == []
    assert (tree / "door.txt").read_text() == "first\nlocked\nlast\n"
    assert outcome(tree) == []  # and the copy was put back


@pytest.mark.parametrize(
    "options, words",
    [
        ({"new": "locked twice"}, "not noticed by unit.door"),
        ({"tests": "unit.window"}, "not noticed by unit.window"),
        ({"tests": "unit.door unit.window"}, "not noticed by unit.window"),
        ({"old": "ajar"}, "does not apply"),
        ({"new": "unbuildable"}, "does not build"),
        ({"tests": "unit.roof"}, "no test is called 'unit.roof'"),
        ({"tests": "unit.("}, "no regular expression"),
        ({"row": 15}, "must be called"),
        ({"extra": "# because: x\n"}, "unknown header 'because'"),
        ({"targets": ""}, "lacks the header # targets:"),
    ],
)
def test_everything_else_is_a_failure(tree, options, words):
    patch(tree, **options)
    findings = outcome(tree)
    assert len(findings) == 1 and words in findings[0]


def test_a_test_that_fails_anyway_shows_nothing(tree):
    patch(tree)
    (tree / "door.txt").write_text("first\nbroken\nlast\n")
    patch(tree, old="broken")
    assert "fails without any patch" in outcome(tree)[0]


def test_copies_side_by_side_judge_as_one_does(tree, capsys):
    for number in range(5):
        patch(tree, name=f"14-door{number}", new="open" if number % 2 == 0 else "locked twice")
    findings = outcome(tree, jobs=3)
    assert [finding.split(":")[0] for finding in findings] == ["14-door1", "14-door3"]
    assert {path.name for path in (tree / "build" / "mutation").iterdir()} == {"src", "src1", "src2"}
    assert "3 of 5 patches were noticed" in capsys.readouterr().out


def test_one_row_or_one_patch(tree):
    patch(tree)
    patch(tree, name="15-window", row=15, tests="unit.window")
    assert outcome(tree, rows=[14]) == []
    assert outcome(tree, only=["14-door"]) == []
    assert len(outcome(tree)) == 1
    with pytest.raises(SystemExit):
        outcome(tree, only=["14-roof"])


def test_the_quick_check(tree):
    patch(tree)
    assert any("TABLE.md" in finding for finding in check.check(tree, tree / "build"))
    assert check.check(tree, tree / "build", write=True) == []
    assert "14-door.patch" in (tree / "tests" / "mutation" / "TABLE.md").read_text()
    patch(tree, targets="gate")
    assert any("no target 'gate'" in finding for finding in check.check(tree, tree / "build"))
    (tree / "door.txt").write_text("first\nlast\n")
    assert any("does not apply" in finding for finding in check.check(tree, tree / "build"))


def test_files_of_a_patch(tree):
    patch(tree)
    found, problems = patching.read_all(tree / "tests" / "mutation")
    assert problems == [] and found[0].files() == ["door.txt"] and found[0].defence == "door"
