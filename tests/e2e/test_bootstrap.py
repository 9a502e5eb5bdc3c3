"""What the README tells a newcomer to type: `./bootstrap start` and `./bootstrap demo`. The tree is built; what they do for one that is not is fresh machines' to show."""

import pathlib
import subprocess

import harness


def bootstrap(home, *arguments):
    done = subprocess.run([str(harness.ROOT / "bootstrap"), *map(str, arguments)], env=home.environment(), cwd=home.folder, capture_output=True, text=True,
                          timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_start_ends_with_a_guest_and_what_to_type_next(agentvm, home):
    repository = harness.make_repository(home.folder / "my project", {"README": "one\n"})
    for _ in range(2):  # the second finds it running, and says the same
        shown = bootstrap(home, "start", repository).stdout
        status, following = shown.split("What to type next:")
        assert "running" in status and str(repository) in status
        commands = [line.split("#")[0].strip() for line in following.splitlines() if line.strip()]
        assert len(commands) == 4 and commands[0] == f"cd '{repository}'"
    name = agentvm.sandboxes()[0]
    assert harness.BUILD / "bin" / "agentvm" == pathlib.Path(commands[1].split()[0])
    assert agentvm.exec(name, "cat", "/workspace/README") == "one\n"
    agentvm.run("destroy", name, "--force")


def test_demo_goes_once_around_and_leaves_nothing(agentvm, home):
    done = bootstrap(home, "demo")
    assert "demo done: started, committed inside, synced, destroyed" in done.stderr
    assert "Answer from the guest" in done.stdout and "git log --oneline --decorate" in done.stdout
    assert agentvm.sandboxes() == [] and harness.temporary_files(home) == []
