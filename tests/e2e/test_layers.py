"""Layers of an image: containers as the agent, and virtual machines that agentvm itself starts within a sandbox."""

import os
import pathlib
import shutil
import subprocess

import pytest

import harness

NAME = "builder"
TOOLS = "/workspace/tools"  # ignored by the project's git
DOCKERFILE = 'FROM scratch\nCOPY tool /tool\nRUN ["/tool", "--version"]\nENTRYPOINT ["/tool"]\n'
IMAGE_SECONDS = 1500


def suite():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    return "bookworm"


@pytest.fixture(scope="module")
def box(agentvm, home):
    # The host's own suite: what was built here runs there.
    recipe = home.folder / "recipe.yaml"
    recipe.write_text((harness.ROOT / "guest/image/recipes/default.yaml").read_text().replace("suite: bookworm", f"suite: {suite()}"))
    files = {".gitignore": "tools/\n", "agentvm.yaml": "layers: [hypervisor, containers]\n", "Dockerfile": DOCKERFILE}
    repository = harness.make_repository(home.folder / "project", files)
    agentvm.run("start", repository, "--name", NAME, "--image", recipe, "--memory", "3G", "--vcpus", "2", "--no-attach", timeout=IMAGE_SECONDS)
    return NAME


def inside(agentvm, script, **options):
    return agentvm.exec(NAME, "sh", "-ec", script, **({"timeout": 300} | options))


def test_the_image_tells_its_layers(agentvm, box):
    status = agentvm.json("status", box, "--verbose")
    assert status["image"]["layers"] == ["containers", "hypervisor"]
    named = agentvm.json("image", "inspect", status["image"]["digest"])
    assert named["name"] == "default+containers+hypervisor" and named["used_by"] == [box]
    assert agentvm.json("plan", "start", cwd=home_of(agentvm))["layers"]["value"] == ["containers", "hypervisor"]
    idle = agentvm.text("exec", box, "--", "sudo", "systemctl", "is-active", "libvirtd.service", "podman.service", code=(0, 3, 4)).split()
    assert "active" not in idle, "nothing runs that nobody asked for"


def home_of(agentvm):
    return agentvm.home.folder / "project"


def test_an_image_is_built_and_run_in_it(agentvm, box):
    # ldconfig is a program without libraries, and so a whole image.
    inside(agentvm, "mkdir -p /tmp/build && cp /workspace/Dockerfile /tmp/build/ && cp /sbin/ldconfig /tmp/build/tool && podman build -q -t mine /tmp/build")
    assert inside(agentvm, "podman run --rm mine --version").startswith("ldconfig (")
    assert "Error" not in agentvm.run("exec", NAME, "--", "podman", "run", "--rm", "--memory", "64m", "mine", "--version", timeout=300).stderr.decode()
    assert inside(agentvm, "id -un; podman info --format '{{.Host.Security.Rootless}}'").split() == ["agent", "true"]


def test_what_speaks_dockers_api_finds_it(agentvm, box):
    assert inside(agentvm, "curl -fsS --unix-socket /run/docker.sock http://docker/_ping") == "OK"
    assert '"Names":["/' not in inside(agentvm, "curl -fsS --unix-socket /run/docker.sock http://docker/v1.40/containers/json")
    assert "localhost/mine:latest" in inside(agentvm, "curl -fsS --unix-socket /run/docker.sock http://docker/v1.40/images/json")
    assert inside(agentvm, "docker images --format '{{.Repository}}'").split() == ["localhost/mine"]


def test_a_container_reaches_what_the_sandbox_may_and_no_more(agentvm, box):
    # The sandbox's own curl, with what it needs, is the image.
    inside(agentvm, "mkdir /tmp/tree && for f in /usr/bin/curl $(ldd /usr/bin/curl | grep -o '/[^ ]*') /lib/x86_64-linux-gnu/libnss_files.so.2 "
           "/etc/ssl/certs/ca-certificates.crt; do cp --parents -L $f /tmp/tree; done; tar -C /tmp/tree -c . | podman import -q - curl")

    def ask(url, *options):
        words = "-sS -o /dev/null -w '%{http_connect} %{http_code}' --max-time 60"
        return inside(agentvm, f"podman run --rm {' '.join(options)} curl curl {words} {url} 2>/dev/null || :").split()

    inside(agentvm, "podman network create between")
    assert ask("https://nowhere.example/")[0] == "403", "refused by name, not lost"
    assert ask("https://nowhere.example/", "--network", "between")[0] == "403"
    source = inside(agentvm, "sed -n 's/^deb .*\\(https*:[^ ]*\\) .*/\\1/p' /etc/apt/sources.list | head -n 1").strip()
    assert ask(f"{source}/dists/{suite()}/InRelease")[1] == "200"


def copy_tools(agentvm, box):
    """This build, and the image that it boots, as a project that builds them has them in its work tree."""
    workspace = agentvm.home.state / "sandboxes" / box / "workspace"
    tools = workspace / "tools"
    for part in ("bin", "libexec"):
        shutil.copytree(harness.BUILD / part, tools / part)
    image = (harness.BUILD / "test-data" / "image").resolve()
    images = tools / "data" / "agentvm" / "images"
    images.mkdir(parents=True)
    subprocess.run(["cp", "-a", "--sparse=always", image, images], check=True)
    (tools / "lib").mkdir()
    here = {}  # library -> file, of all that the programs are linked to, directly or not
    for program in [path for path in [*(tools / "bin").iterdir(), *(tools / "libexec" / "agentvm").iterdir()] if path.name != "agentvm-guestfs"]:
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        here |= {line.split()[0]: line.split()[2] for line in linked.splitlines() if "=> /" in line}
    known = agentvm.exec(box, "/sbin/ldconfig", "-p")
    for name, file in here.items():
        if f"\t{name} " not in known:
            shutil.copy(file, tools / "lib" / name)
    owner = workspace.stat()
    if os.geteuid() == 0:
        for path in [tools, *tools.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return image.name


def test_agentvm_starts_a_guest_of_its_own_in_it(agentvm, box):
    """Nested KVM end to end: the machine in the machine is found by the trial, boots, and runs a command."""
    digest = copy_tools(agentvm, box)
    # What the package manager would have put there; the confined children may read libraries of the system alone.
    inside(agentvm, f"sudo cp {TOOLS}/lib/* /usr/local/lib/ && sudo ldconfig")
    script = (f"export XDG_DATA_HOME={TOOLS}/data PATH={TOOLS}/bin:$PATH; chmod 700 {TOOLS}/data/agentvm {TOOLS}/data/agentvm/images; "
              "test -d ~/inner || { git init -q ~/inner && cd ~/inner && git config user.name A && git config user.email a@b.invalid && echo deep >file && "
              "git add . && git commit -qm First; }; cd ~/inner; ")
    try:
        inside(agentvm, script + f"agentvm start --name inner --image {digest} --memory 768M --vcpus 1 --no-attach", timeout=900)
        status = inside(agentvm, script + "agentvm status inner --json")
        assert '"accelerator": "kvm"' in status or '"accelerator":"kvm"' in status, status
        assert inside(agentvm, script + "agentvm exec inner -- cat /workspace/file") == "deep\n"
        assert inside(agentvm, script + "agentvm exec inner -- systemd-detect-virt") == "kvm\n"
        inside(agentvm, script + "agentvm exec inner -- sh -c 'echo deeper >file && git commit -qam Second'; agentvm sync inner")
        assert inside(agentvm, "git -C ~/inner log --format=%s").split() == ["Second", "First"]
    finally:
        inside(agentvm, script + "agentvm logs inner --boot | tail -n 5; agentvm destroy inner --force; agentvm manager stop", code=None)
