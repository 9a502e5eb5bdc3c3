"""A project's agentvm.yaml counts as far as the user trusts it: `agentvm trust`, and what plan, config show and start say."""

import json
import stat

import pytest

import harness

WIDE = "network: nat\negress: {allow: [one.example]}\nmemory: 1G\n"
RECIPE = "name: own\nsuite: bookworm\nkernel: linux-image-amd64\npackages: [ca-certificates]\n"


@pytest.fixture
def project(home, request):
    return harness.make_repository(home.folder / request.node.name, {"README": "one\n", "agentvm.yaml": WIDE})


def in_force(agentvm, project):
    plan = agentvm.json("plan", project)
    of_trust = [text for text in plan["warnings"] if "trust" in text.replace(str(project), "")]  # small hosts cut memory and CPUs, too
    return plan["network"]["value"], plan["egress_allow"]["value"], of_trust


def test_a_key_counts_from_trust_until_it_changes(agentvm, home, project):
    network, allow, warnings = in_force(agentvm, project)
    assert (network, allow) == ("filtered", [])
    assert len(warnings) == 2 and all(text.endswith(f"agentvm trust {project}") for text in warnings)
    shown = agentvm.json("trust", "--dry-run", project)
    assert [(row["name"], row["state"], row["text"], row["in_force"]["text"]) for row in shown["keys"]] == [
        ("network", "new", "nat", "filtered"), ("egress.allow", "new", "one.example", "-")]
    assert in_force(agentvm, project)[0] == "filtered", "a dry run trusts nothing"

    agentvm.run("trust", project, "--force")
    network, allow, warnings = in_force(agentvm, project)
    assert (network, allow, warnings) == ("nat", ["one.example"], [])
    files = list((home.state / "trust").iterdir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600]
    assert "one.example" not in files[0].read_text(), "digests alone are kept"

    (project / "agentvm.yaml").write_text("# a comment\n" + WIDE.replace("one.example", "evil.example"))
    network, allow, warnings = in_force(agentvm, project)
    assert (network, allow) == ("nat", [])
    assert len(warnings) == 1 and "'egress.allow'" in warnings[0] and "changed" in warnings[0]
    shown = agentvm.run("config", "show", cwd=project)
    assert b"evil.example" not in shown.stdout and b"agentvm trust" in shown.stderr

    agentvm.run("trust", "--remove", cwd=project)
    assert in_force(agentvm, project)[0] == "filtered"
    assert agentvm.json("trust", "--remove", project)["removed"] is False


def test_it_asks_and_takes_what_it_showed_and_nothing_else(agentvm, project):
    refused = agentvm.run("trust", project, code=64, stdin="y\n")
    assert b"--force" in refused.stderr
    terminal = agentvm.spawn("trust", project)
    terminal.expect("egress.allow.*one.example")
    terminal.expect("count\\? \\[y/N\\] ")
    terminal.sendline("n")
    assert harness.exit_status(terminal) == 5
    assert in_force(agentvm, project)[0] == "filtered"

    terminal = agentvm.spawn("trust", project)
    terminal.expect("count\\? \\[y/N\\] ")
    (project / "agentvm.yaml").write_text(WIDE.replace("one.example", "evil.example"))
    terminal.sendline("y")
    assert harness.exit_status(terminal) == 6, "what changed while it was read is not trusted"
    assert in_force(agentvm, project)[1] == []

    terminal = agentvm.spawn("trust", project)
    terminal.expect("evil.example")
    terminal.expect("count\\? \\[y/N\\] ")
    terminal.sendline("y")
    assert harness.exit_status(terminal) == 0
    assert in_force(agentvm, project)[1] == ["evil.example"]


def test_a_recipe_of_the_project_is_trusted_with_its_content(agentvm, project):
    (project / "agentvm.yaml").write_text("image: ./own.yaml\n")
    agentvm.run("trust", project, "--force", code=1)
    (project / "own.yaml").write_text(RECIPE.replace("name:", "nome:"))
    broken = agentvm.run("trust", project, "--force", code=64)
    assert b"own.yaml:1:1" in broken.stderr
    (project / "own.yaml").write_text(RECIPE)
    shown = agentvm.run("trust", "--dry-run", project)
    assert b"bookworm with linux-image-amd64" in shown.stdout and b"ca-certificates" in shown.stdout
    agentvm.run("trust", project, "--force")
    assert agentvm.json("plan", project)["image"]["value"] == str(project / "own.yaml")
    (project / "own.yaml").write_text(RECIPE.replace("[ca", "[evil, ca"))
    assert agentvm.json("plan", project)["image"]["value"] == "default"
    (project / "own.yaml").write_text(RECIPE)
    assert agentvm.json("plan", project)["image"]["value"] == str(project / "own.yaml")


def test_what_runs_on_the_host_cannot_be_trusted(agentvm, project):
    (project / "agentvm.yaml").write_text("libvirt: {uri: 'qemu:///system'}\n")
    for command in (("trust", "--force"), ("plan",), ("start", "--no-attach"), ("config", "validate")):
        refused = agentvm.run(*command, code=6, cwd=project)
        assert b"'libvirt.uri' decides what runs on this host" in refused.stderr
    error = json.loads(agentvm.run("trust", "--dry-run", "--json", code=6, cwd=project).stdout)
    assert error["code"] == "decision-needed"


def test_nothing_to_trust(agentvm, project):
    (project / "agentvm.yaml").write_text("memory: 1G\n")
    assert agentvm.json("trust", project)["keys"] == []
    (project / "agentvm.yaml").unlink()
    done = agentvm.run("trust", cwd=project)
    assert done.stdout == b"" and b"nothing that needs trust" in done.stderr
    agentvm.run("trust", cwd=project.parent, code=1)


def test_an_image_that_lost_its_trust_is_not_built(agentvm, project):
    """The record remembers the recipe of a start that failed; what was written there since is not what was trusted."""
    (project / "own.yaml").write_text(RECIPE.replace("bookworm", "nosuch"))
    (project / "agentvm.yaml").write_text("image: ./own.yaml\nmemory: 1G\n")
    agentvm.run("trust", project, "--force")
    agentvm.run("start", project, "--name", "recipe", "--no-attach", code=(3, 4), timeout=harness.START_SECONDS)
    (project / "own.yaml").write_text(RECIPE.replace("bookworm", "other"))
    started = agentvm.run("start", project, "--name", "recipe", "--no-attach", timeout=harness.START_SECONDS)
    assert b"'image' gives the guest more and has changed" in started.stderr
    assert agentvm.json("status", "recipe")["state"] == "running"
    agentvm.run("destroy", "recipe", "--force")


def test_a_policy_for_the_gate_counts_once_it_is_trusted(agentvm, project):
    (project / "agentvm.yaml").write_text("image: ./own.yaml\nsync: {gate: {allow: ['**']}}\nmemory: 1G\n")
    (project / "own.yaml").write_text(RECIPE)
    harness.git(project, "add", "-A")
    harness.git(project, "commit", "-q", "-m", "Policy")
    agentvm.start(project, "policy")
    harness.commit_inside(agentvm, "policy", "Makefile", "all:")
    assert [found["path"] for found in agentvm.json("sync", "policy", code=6)["gated"]] == ["Makefile"]
    agentvm.run("trust", project, "--force")
    assert agentvm.json("sync", "policy")["moved"] is True
    # What decides what the next image is made of is asked for, whatever the policy allows.
    harness.commit_inside(agentvm, "policy", "own.yaml", "name: other")
    assert [(found["path"], found["kind"]) for found in agentvm.json("sync", "policy", code=6)["gated"]] == [("own.yaml", "agentvm")]
    agentvm.run("destroy", "policy", "--force")
