"""Rules of a running sandbox: what is denied is seen, asked for and allowed without a restart, in every protocol."""

import json
import socket
import ssl
import subprocess
import threading

import pytest

import harness

NAME = "rules"


class Decoy(threading.Thread):
    """A server on the host's loopback that says who it is, over plain HTTP or TLS, and keeps what it hears."""

    def __init__(self, context=None):
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
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            if request := connection.recv(4096):
                self.heard.append(request)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ndecoy")
        except OSError:
            pass
        finally:
            connection.close()


@pytest.fixture(scope="module")
def plain():
    decoy = Decoy()
    yield decoy
    decoy.listener.close()


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    decoy = Decoy(context)
    yield decoy
    decoy.listener.close()


@pytest.fixture(scope="module")
def box(agentvm, home, plain, secure):
    """Grants by name for this host's own loopback: what a user does for a server of their own."""
    path = home.folder / "config" / "agentvm" / "config.yaml"
    path.write_text(path.read_text() + f"egress:\n  presets: [forges]\n  deny: [gitlab.com]\n  grants: ['localhost:{plain.port}', 'localhost:{secure.port}']\n")
    repository = harness.make_repository(home.folder / "project", {"README": "one\n", "agentvm.yaml": "egress:\n  allow: [evil.example]\n"})
    agentvm.start(repository, NAME)
    return NAME


def proxied(agentvm, box, *arguments):
    """curl through the proxy by force: output, exit status."""
    result = agentvm.run("exec", box, "--", "curl", "-sS", "--max-time", "30", "--noproxy", "", *arguments, code=None)
    return result.stdout.decode() + result.stderr.decode(), result.returncode


def log_row(agentvm, box, host, *options):
    rows = [row for row in agentvm.json("egress", "log", box, *options)["rows"] if row["host"] == host]
    return rows[-1] if rows else None


def test_a_denied_name_says_how_to_ask_and_is_logged(agentvm, box):
    text, _ = proxied(agentvm, box, "--proxy", "http://127.0.0.1:3128", "http://denied.example/")
    assert f"agentvm egress allow {box} denied.example" in text
    row = harness.eventually(lambda: log_row(agentvm, box, "denied.example", "--denied"))
    assert (row["verdict"], row["cause"], row["port"], row["count"]) == ("denied", "not-listed", 80, 1)
    assert "denied.example:80" in agentvm.text("egress", "log", box)
    assert agentvm.json("status", box)["egress"]["denied"] >= 1
    assert "denied" in agentvm.text("status", box)


def test_check_says_which_rule_decides(agentvm, box):
    assert "preset forges" in agentvm.json("egress", "check", box, "github.com", code=(0, 6))["rule"]
    denied = agentvm.json("egress", "check", box, "gitlab.com", code=6)
    assert (denied["allowed"], denied["cause"], denied["rule"]) == (False, "denied-by-rule", "gitlab.com (egress.deny)")
    assert agentvm.json("egress", "check", box, "registry.example", code=6)["cause"] == "not-listed"
    # What a guest could have committed counts nowhere.
    assert agentvm.json("egress", "check", box, "evil.example", code=6)["cause"] == "not-listed"


def test_allow_and_deny_act_at_once_and_stay(agentvm, box):
    def code():
        return proxied(agentvm, box, "-o", "/dev/null", "-w", "%{http_code}", "--proxy", "http://127.0.0.1:3128", "http://asked.invalid/")[0][-3:]

    assert code() == "403"
    agentvm.run("egress", "allow", box, "*.invalid", code=64)
    agentvm.run("egress", "allow", box, "asked.invalid")
    assert code() == "502"  # allowed, and there is no such host
    agentvm.run("egress", "deny", box, "asked.invalid")
    assert code() == "403"
    agentvm.run("egress", "deny", box, "asked.invalid", "--remove")
    agentvm.run("egress", "allow", box, "asked.invalid")
    own = agentvm.json("status", box, "--verbose")["egress"]["own"]
    assert own == {"allow": ["asked.invalid"], "deny": []}
    assert agentvm.run("egress", "allow", box, "192.168.1.1:80", code=6)
    assert agentvm.run("egress", "allow", box, "gitlab.com", code=6)


def test_what_was_granted_is_reached_in_every_protocol(agentvm, box, plain, secure):
    http, socks = "http://127.0.0.1:3128", "socks5h://127.0.0.1:3128"
    for proxy in (["--proxy", http], ["--proxy", http, "--proxytunnel"], ["--proxy", socks]):
        assert proxied(agentvm, box, *proxy, f"http://localhost:{plain.port}/") == ("decoy", 0), proxy
        assert proxied(agentvm, box, *proxy, "-k", f"https://localhost:{secure.port}/") == ("decoy", 0), proxy
    row = log_row(agentvm, box, "localhost")
    assert row["verdict"] == "allowed" and "egress.grants" in row["rule"]
    assert agentvm.json("egress", "check", box, f"localhost:{plain.port}")["grant"] is True


def test_a_tunnel_for_one_name_is_none_for_another(agentvm, box, plain, secure):
    """The address behind an allowed name may answer for others: TLS and plain requests must name the same."""
    before = len(plain.heard), len(secure.heard)
    script = f"""
import socket, ssl, sys
def tunnel(port):
    s = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    s.sendall(b"CONNECT localhost:%d HTTP/1.1\\r\\nHost: localhost:%d\\r\\n\\r\\n" % (port, port))
    assert b" 200 " in s.recv(4096)
    return s
context = ssl._create_unverified_context()
for name in ("evil.example", None):
    try:
        context.check_hostname = False
        context.wrap_socket(tunnel({secure.port}), server_hostname=name)
        print("tls", name, "passed")
    except ssl.SSLError as error:
        print("tls", name, error.reason)
s = tunnel({plain.port})
s.sendall(b"GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n")
print(s.recv(4096).split(b"\\r\\n")[0].decode())
"""
    out = agentvm.exec(box, "python3", "-c", script)
    assert out.splitlines() == ["tls evil.example TLSV1_UNRECOGNIZED_NAME", "tls None TLSV1_UNRECOGNIZED_NAME", "HTTP/1.1 403 Forbidden"], out
    assert harness.eventually(lambda: log_row(agentvm, box, "localhost", "--denied"))["cause"] == "other-name"
    assert (len(plain.heard), len(secure.heard)) == before  # they were dialled, and heard nothing


def test_suggest_lists_what_the_log_needs(agentvm, box):
    rules = [entry["rule"] for entry in agentvm.json("egress", "suggest", box)["allow"]]
    assert rules == ["asked.invalid", "denied.example"]
    assert agentvm.text("egress", "suggest", box).startswith("egress:\n  allow:\n    - asked.invalid")


def test_watch_follows(agentvm, box):
    with agentvm.popen("egress", "watch", box, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        watch.stderr.readline()  # "watching"
        proxied(agentvm, box, "--proxy", "http://127.0.0.1:3128", "http://watched.example/")
        event = json.loads(watch.stdout.readline())
        watch.terminate()
    assert (event["schema"], event["host"], event["verdict"]) == ("agentvm.egress-event/1", "watched.example", "denied")


def test_rules_and_counts_outlive_the_manager(agentvm, box):
    denied = agentvm.json("status", box)["egress"]["denied"]
    agentvm.run("manager", "stop")
    harness.eventually(lambda: agentvm.json("status", box)["egress"]["open"], what="egress is open again")
    assert agentvm.json("status", box)["egress"]["denied"] == denied > 0
    assert proxied(agentvm, box, "-o", "/dev/null", "-w", "%{http_code}", "--proxy", "http://127.0.0.1:3128", "http://asked.invalid/")[0][-3:] == "502"


def test_plan_and_config_list_the_rules(agentvm, box, home):
    rules = agentvm.json("plan", home.folder / "project")["egress"]["rules"]
    by_rule = {rule["rule"]: rule for rule in rules}
    assert by_rule["github.com"] == {"rule": "github.com", "verdict": "allow", "origin": "preset forges", "reason": "GitHub: git and pages", "grant": False,
                                     "effective": True}
    assert by_rule["asked.invalid"]["origin"] == "agentvm egress allow"
    assert "evil.example" not in by_rule
    assert any(rule["rule"] == "gitlab.com" and not rule["effective"] for rule in rules)
    assert any(rule["origin"] == "package sources" and rule["grant"] for rule in rules)
    assert "allow (preset forges)" in agentvm.text("plan", home.folder / "project")
    assert "deny (egress.deny)\n  gitlab.com" in agentvm.text("config", "show")


def test_a_companys_proxy_is_asked_by_name_and_takes_no_addresses(agentvm, box, home, plain):
    path = home.folder / "config" / "agentvm" / "config.yaml"
    before = path.read_text()
    path.write_text(before.replace("egress:\n", f"egress:\n  upstream: http://127.0.0.1:{plain.port}\n"))
    project = home.folder / "project" / "agentvm.yaml"
    committed = project.read_text()
    project.write_text("egress: {upstream: direct}\n")  # refused, and not in the way of the user's own
    try:
        agentvm.run("egress", "allow", box, "nowhere.invalid")  # rules are read anew with it
        assert proxied(agentvm, box, "--proxy", "http://127.0.0.1:3128", "http://nowhere.invalid/page") == ("decoy", 0)
        assert plain.heard[-1].startswith(b"GET http://nowhere.invalid/page HTTP/1.1\r\nHost: nowhere.invalid\r\n")
        assert proxied(agentvm, box, "-o", "/dev/null", "-w", "%{http_code}", "--proxy", "http://127.0.0.1:3128", "http://denied.invalid/")[0][-3:] == "403"
        # What is granted and near is not asked of it: the request keeps its origin form.
        assert proxied(agentvm, box, "--proxy", "http://127.0.0.1:3128", f"http://localhost:{plain.port}/near") == ("decoy", 0)
        assert plain.heard[-1].startswith(b"GET /near HTTP/1.1\r\n")
        project.write_text(committed)
        assert f"through the proxy http://127.0.0.1:{plain.port}, which resolves names itself" in agentvm.text("plan", home.folder / "project")
        path.write_text(before.replace("egress:\n", "egress:\n  upstream: http://me:secret@127.0.0.1:1\n"))
        error = agentvm.run("config", "show", code=64).stderr
        assert b"environment" in error and b"secret" not in error
    finally:
        path.write_text(before)
        project.write_text(committed)
    agentvm.run("egress", "allow", box, "nowhere.invalid")
    assert proxied(agentvm, box, "-o", "/dev/null", "-w", "%{http_code}", "--proxy", "http://127.0.0.1:3128", "http://nowhere.invalid/")[0][-3:] == "502"
