"""Starting and stopping again and again leaves what once does: no process, socket, mount, descriptor or file more."""

import os
import pathlib

import harness

ROUNDS = int(os.environ.get("AGENTVM_TEST_ROUNDS", "20" if harness.FULL else "3"))


def snapshot(home, agentvm):
    """What there is while everything is stopped. Logs grow and turn; they are not counted."""
    manager = agentvm.manager_pid()
    return {
        "processes": len(harness.processes(home)),
        "qemu and virtiofsd": len(harness.processes(home, "qemu")) + len(harness.processes(home, "virtiofsd")),
        "mounts": harness.mounts(home),
        "files": sorted(str(p.relative_to(home.folder)) for p in home.folder.rglob("*")
                        if ".log" not in p.name and ".git" not in p.parts and "cache" not in p.parts),
        "descriptors of the manager": len(os.listdir(f"/proc/{manager}/fd")),
        "threads of the manager": len(os.listdir(f"/proc/{manager}/task")),
    }


def test_rounds_of_start_and_stop_leave_nothing(agentvm, home):
    repository = harness.make_repository(home.folder / "project")
    name = "again"
    agentvm.start(repository, name)  # the first round makes the disk and the clone
    agentvm.run("stop", name)
    first = snapshot(home, agentvm)
    assert first["qemu and virtiofsd"] == 0 and first["mounts"] == []
    for _ in range(ROUNDS):
        agentvm.start(repository, name)
        assert agentvm.exec(name, "cat", "/workspace/README") == "one\n"
        agentvm.run("stop", name)
    last = snapshot(home, agentvm)
    # A pool may have grown to its bound since the first round; it must not grow with every one.
    for counted in ("descriptors of the manager", "threads of the manager"):
        assert last.pop(counted) <= first.pop(counted) + 4, counted
    assert last == first


def test_destroy_takes_the_folder_along(agentvm, home):
    agentvm.run("destroy", "again", "--force")
    assert not list(pathlib.Path(home.state / "sandboxes").glob("*"))
    assert not list(pathlib.Path(home.state / "s").glob("*"))
