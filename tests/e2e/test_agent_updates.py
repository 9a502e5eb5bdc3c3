"""Newer agent programs from a registry of npm's: asked for, installed, pinned and taken back, against a small registry on this host. In order."""

import base64
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
import urllib.parse

import pytest

import harness

NAME, PACKAGE = "updated", "@demo/agent"
BUILD_SECONDS = 400  # a guest starts, fetches, packs and ends


def archive(version):
    """The package as npm packs it: a program that tells its version."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        program = f"#!/bin/sh\necho demo-{version}\n[ $# != 0 ] || read -r line\n".encode()
        entry = tarfile.TarInfo("package/demo")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return target.getvalue()


class Registry(http.server.ThreadingHTTPServer):
    """What `published` names; the last of it is the latest."""

    def __init__(self):
        self.published, self.latest, self.swapped, self.asked = {}, "", set(), []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://localhost:{self.server_port}/npm/"

    def publish(self, version):
        self.published[version] = archive(version)
        self.latest = version

    def digest(self, version):
        return hashlib.sha512(self.published[version]).digest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # pylint: disable=invalid-name
        registry, path = self.server, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        registry.asked.append(path)
        version = path.rsplit("/", 1)[-1]
        if PACKAGE not in path:
            body = None
        elif version.startswith("agent-"):
            version = version.removeprefix("agent-").removesuffix(".tgz")
            body = registry.published.get(version)
            if version in registry.swapped:
                body = archive("swapped")
        else:
            version = registry.latest if version == "latest" else version
            integrity = base64.b64encode(registry.digest(version)).decode() if version in registry.published else ""
            body = json.dumps({"name": PACKAGE, "version": version, "dist": {"integrity": f"sha512-{integrity}"}}).encode() if integrity else None
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def registry():
    server = Registry()
    server.publish("1.0.0")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def client(home, registry):
    """Whose host is set to that registry."""
    folder = home.folder / "config" / "agentvm" / "agents"
    folder.mkdir()
    (folder / "demo.yaml").write_text(f"name: demo\ntitle: Demo\npackages: [{{name: '{PACKAGE}', version: 1.0.0, sha512: {registry.digest('1.0.0').hex()}}}]\n"
                                      f"command: [./node_modules/{PACKAGE}/demo]\nrun: [-p]\n")
    before = set((home.data / "agentvm" / "layers").glob("*"))
    yield harness.Agentvm(home, prefix=["env", f"npm_config_registry={registry.url}"])
    for path in set((home.data / "agentvm" / "layers").glob("*")) - before:
        if path.is_dir():
            shutil.rmtree(path)


@pytest.fixture(scope="module")
def lock_file(home):
    return home.folder / "config" / "agentvm" / "agents.lock.json"


def listed(client, *options):
    return next(agent for agent in client.json("agents", "list", *options)["agents"] if agent["name"] == "demo")


def result(client, *words, **options):
    answer = client.json("agents", *words, timeout=BUILD_SECONDS, **options)
    return next(agent for agent in answer["agents"] if agent["name"] == "demo")


def test_a_dry_run_tells_and_changes_nothing(client, registry, lock_file):
    assert (listed(client)["version"], listed(client)["newest"], listed(client)["lock"]) == ("1.0.0", None, None)
    assert registry.asked == [], "a list asks nobody"
    registry.publish("1.1.0")
    told = result(client, "update", "demo", "--dry-run")
    assert (told["from"], told["to"], told["result"]) == ("1.0.0", "1.1.0", "would-update")
    assert not lock_file.exists() and listed(client)["version"] == "1.0.0" and listed(client)["newest"]["version"] == "1.1.0"
    assert registry.asked == [f"/npm/{PACKAGE}/latest"]
    client.run("agents", "update", "nosuch", code=1)
    client.run("agents", "pin", "demo", code=64)
    assert "1.1.0" in client.text("agents", "list")


def test_an_update_is_installed_and_written_down(client, home, registry, lock_file):
    told = result(client, "update", "demo")
    assert (told["from"], told["to"], told["result"]) == ("1.0.0", "1.1.0", "updated")
    lock = json.loads(lock_file.read_text())["agents"]["demo"]
    assert lock == {"package": PACKAGE, "version": "1.1.0", "sha512": registry.digest("1.1.0").hex(), "pinned": False}
    now = listed(client)
    assert (now["version"], now["defined_version"], now["lock"], now["installed"]) == ("1.1.0", "1.0.0", "updated", True)
    repository = harness.make_repository(home.folder / "project")
    client.start(repository, NAME, "--memory", "1G", "--network", "none", "--agent", "demo")
    assert client.exec(NAME, "demo", "-p") == "demo-1.1.0\n"
    assert client.json("status", NAME)["agent"]["version"] == "1.1.0"
    assert not (repository / "agents.lock.json").exists() and harness.git(repository, "status", "--short") == ""


def test_what_runs_keeps_what_it_has(client, home, registry):
    registry.publish("1.2.0")
    answer = client.json("agents", "update", code=3, timeout=BUILD_SECONDS)  # this registry has no other agent
    results = {agent["name"]: agent["result"] for agent in answer["agents"]}
    assert results["demo"] == "updated" and results["claude"] == "failed", "one that is installed, without its name"
    assert client.exec(NAME, "demo", "-p") == "demo-1.1.0\n"
    assert client.json("status", NAME)["agent"]["version"] == "1.1.0"
    client.run("stop", NAME)
    client.start(home.folder / "project", NAME, "--agent", "demo")
    assert client.exec(NAME, "demo", "-p") == "demo-1.2.0\n"
    assert client.json("status", NAME)["agent"]["version"] == "1.2.0"


def test_an_archive_that_is_another_one_is_not_chosen(client, registry, lock_file):
    before = lock_file.read_text()
    registry.publish("1.3.0")
    registry.swapped.add("1.3.0")
    told = result(client, "update", "demo", code=3)
    assert told["result"] == "failed" and "is not what was pinned" in told["problem"]
    assert lock_file.read_text() == before and listed(client)["version"] == "1.2.0"


def test_a_registry_does_not_take_it_back(client, registry):
    registry.latest = "1.0.0"
    assert result(client, "update", "demo")["result"] == "up-to-date"
    assert listed(client, "--newest")["version"] == "1.2.0"


def test_a_pin_stays_until_it_is_taken_back(client, registry, lock_file):
    assert result(client, "pin", "demo", "1.1.0")["to"] == "1.1.0"
    assert listed(client)["lock"] == "pinned" and "1.1.0 (pinned)" in client.text("agents", "list")
    registry.latest = "1.2.0"
    assert result(client, "update", "demo")["result"] == "pinned"
    assert listed(client)["version"] == "1.1.0"
    client.run("agents", "pin", "demo", "7.7.7", code=1)
    assert result(client, "pin", "demo", "--remove")["to"] == "1.0.0"
    assert listed(client)["version"] == "1.0.0" and json.loads(lock_file.read_text())["agents"] == {}


def test_a_lock_file_that_is_none_is_named(client, lock_file):
    lock_file.write_text("{")
    refused = client.run("agents", "list", code=64)
    assert str(lock_file).encode() in refused.stderr and b"rm " in refused.stderr
    lock_file.unlink()
