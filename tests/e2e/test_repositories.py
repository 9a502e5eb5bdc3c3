"""A repository of 12 000 commits and as many files as a real product has goes in, and its commits come home, in both modes of the workspace."""

import resource

import pytest

import harness
import large_repository

LONG = 900  # git reads tens of thousands of files through an emulated machine
# A shared folder costs virtiofsd a descriptor for each file; a host that allows few refuses more, and says so.
SHARED = 40_000 if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 60_000 else 14_000


def refs(text):
    return sorted(line for line in text.splitlines() if "refs/heads/" in line or "refs/tags/" in line)


@pytest.mark.parametrize("mode, files", [("virtiofs", SHARED)] + ([("disk", 40_000)] if harness.FULL else []))
def test_a_large_repository(agentvm, home, mode, files):
    name = f"large-{mode}"
    repository = large_repository.make(home.folder / name, files)
    assert harness.git(repository, "status", "--porcelain") == ""
    agentvm.run("start", repository, "--name", name, "--no-attach", "--workspace", mode, timeout=LONG)
    inside = lambda *command: agentvm.exec(name, "git", "-C", "/workspace", *command, timeout=LONG)  # noqa: E731
    assert inside("rev-parse", "HEAD").strip() == harness.git(repository, "rev-parse", "HEAD")
    assert inside("rev-list", "--count", "--all").strip() == harness.git(repository, "rev-list", "--count", "HEAD", "--branches", "--tags")
    assert refs(inside("show-ref")) == refs(harness.git(repository, "show-ref"))
    assert inside("status", "--porcelain") == ""
    assert int(agentvm.exec(name, "sh", "-c", "git -C /workspace ls-files -z | tr -dc '\\0' | wc -c", timeout=LONG)) > files
    tip = harness.commit_inside(agentvm, name, "src/new.c", "int x;\n")
    result = agentvm.json("sync", name, timeout=LONG)
    assert result["result"] == "updated" and result["new_tip"] == tip
    assert harness.git(repository, "rev-parse", "HEAD") == tip
    assert harness.git(repository, "status", "--porcelain") == ""
    # A folder that is moved touches hundreds of paths.
    moved = agentvm.exec(name, "sh", "-c", "cd /workspace && git mv src/m00 src/renamed && git -c user.name=A -c user.email=a@b "
                         "commit -qm 'Move a folder' && git rev-parse HEAD", timeout=LONG).strip()
    assert agentvm.json("sync", name, timeout=LONG)["new_tip"] == moved
    assert harness.git(repository, "diff", "--stat", "HEAD") == "" and (repository / "src" / "renamed").is_dir()
    harness.git(repository, "fsck", "--no-dangling", "--connectivity-only")
    agentvm.run("destroy", name, "--force", timeout=LONG)


def test_more_files_than_this_host_can_share_are_refused_with_the_way_out(agentvm, home):
    if SHARED == 40_000:
        pytest.skip("this host's hard limit of open files (nofile) allows for more than the largest repository here has")
    repository = large_repository.make(home.folder / "too-large")
    refused = agentvm.run("start", repository, "--name", "too-large", "--no-attach", code=4, timeout=LONG)
    assert b"hard limit nofile" in refused.stderr and b"try: agentvm start --workspace disk" in refused.stderr
    assert agentvm.json("status", "too-large")["state"] == "failed"
    agentvm.run("destroy", "too-large", "--force")
