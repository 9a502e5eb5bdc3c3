"""Dev servers of a real guest, by name from the host: found, listed, reached, gone. The tests run in order on one sandbox."""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import stat
import subprocess
import time

import pytest

import harness

NAME = "web"
BRANCH = "Feature/Login"
LABEL = "feature-login-" + hashlib.sha256(BRANCH.encode()).hexdigest()[:8]
ECHO = pathlib.Path(__file__).resolve().parents[1] / "contract" / "reverse" / "echo_websocket.py"
LARGE = bytes(range(256)) * (1 << 14)  # 4 MiB
SECONDS = 30  # for what takes one: the machine may be busy


@pytest.fixture(scope="module")
def box(agentvm, home):
    repository = harness.make_repository(home.folder / "site", {"index.html": "<p>hello from the guest\n", "echo.py": ECHO.read_text(),
                                                                "large.bin": ""})
    (repository / "large.bin").write_bytes(LARGE)
    harness.git(repository, "commit", "-qam", "Large")
    agentvm.start(repository, NAME)
    return NAME


def wait_for(look, what):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        value = look()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {SECONDS} s: {what}")


def port_row(agentvm, number):
    return next((row for row in agentvm.json("ports", NAME)["ports"] if row["port"] == number), None)


def address(agentvm):
    """Where the proxy is: the tests let it take any free port."""
    return agentvm.json("ports", NAME)["url"].removeprefix("http://").rstrip("/")


def get(host, path="/", family=socket.AF_INET, port=None, **headers):
    port = int(port or host.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1" if family == socket.AF_INET else "::1", port, timeout=SECONDS)
    connection.request("GET", path, headers={"Host": host, **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def serve(agentvm, number, *options):
    agentvm.run("exec", NAME, "--detach", "--", "python3", "-m", "http.server", str(number), *options)
    return wait_for(lambda: port_row(agentvm, number), f"port {number} is listed")


def test_nothing_listens_at_first(agentvm, box):
    answer = agentvm.json("ports", box)
    assert answer["schema"] == "agentvm.ports/1" and answer["ports"] == [] and answer["problem"] == ""
    assert agentvm.run("ports", box).stdout == b""
    assert b"nothing listens" in agentvm.run("open", box, code=1).stderr
    status, body = get(address(agentvm))
    assert status == 503 and b"Nothing listens in web yet" in body
    status, body = get(address(agentvm), Accept="application/json")
    assert status == 503 and json.loads(body)["hint"] == "agentvm ports web"


def test_a_dev_server_appears_and_is_reached_by_name(agentvm, box):
    row = serve(agentvm, 8000, "--bind", "127.0.0.1")
    assert row["process"] == "python3" and row["primary"]
    host = address(agentvm)
    assert row["url"] == f"http://8000.{host}/"
    assert agentvm.text("open", box).strip() == f"http://{host}/"
    assert agentvm.text("open", box, "8000").strip() == row["url"]
    assert agentvm.json("status", box)["ports"] == [row]
    for name in (host, f"8000.{host}"):
        assert get(name) == (200, b"<p>hello from the guest\n")
    assert get(host, family=socket.AF_INET6) == (200, b"<p>hello from the guest\n")
    # As people do it: curl resolves the name by itself.
    assert subprocess.run(["curl", "-sS", "--noproxy", "*", row["url"]], capture_output=True, check=True, timeout=SECONDS,
                          ).stdout == b"<p>hello from the guest\n"
    status, body = get(host, "/large.bin")
    assert status == 200 and hashlib.sha256(body).digest() == hashlib.sha256(LARGE).digest()


def test_other_names_do_not_reach_it(agentvm, box):
    host = address(agentvm)
    port = host.rpartition(":")[2]
    for name in (f"evil.example:{port}", f"other.localhost:{port}", f"127.0.0.1:{port}", "web.localhost", f"22.{host}"):
        status, body = get(name, port=port)
        assert status in (421, 503) and b"hello" not in body, name
    status, body = get(f"localhost:{port}", Accept="application/json")
    assert status == 200 and [row["name"] for row in json.loads(body)["sandboxes"]] == [NAME]


def test_a_server_on_ipv6_alone_and_the_primary_stays(agentvm, box):
    row = serve(agentvm, 7000, "--bind", "::1")
    assert not row["primary"]
    assert get(f"7000.{address(agentvm)}") == (200, b"<p>hello from the guest\n")
    assert port_row(agentvm, 8000)["primary"]


def test_a_websocket_goes_through(agentvm, box):
    known = {row["port"] for row in agentvm.json("ports", box)["ports"]}
    agentvm.run("exec", NAME, "--detach", "--", "python3", "echo.py")
    number = wait_for(lambda: {row["port"] for row in agentvm.json("ports", box)["ports"]} - known, "the echo is listed").pop()
    host = f"{number}.{address(agentvm)}"

    def upgrade(origin):
        client = socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=SECONDS)
        client.sendall((f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n"
                        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        return client, head

    client, head = upgrade("http://evil.example")
    assert head.startswith(b"HTTP/1.1 403")
    client.close()
    client, head = upgrade(f"http://{address(agentvm)}")
    assert head.startswith(b"HTTP/1.1 101")
    client.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
    assert client.recv(7, socket.MSG_WAITALL) == b"\x81\x05hello"
    client.close()


def test_a_port_is_forwarded_as_raw_tcp(agentvm, box):
    assert b"HOSTPORT" in agentvm.run("forward", box, "x:1", code=64).stderr
    process = agentvm.popen("forward", box, "0:7000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = process.stdout.readline().decode()
        port = int(line.split()[0].rpartition(":")[2])
        assert line == f"127.0.0.1:{port} leads to port 7000 of {box}\n"
        # No proxy here: any Host passes, several at once, and a half that is closed leaves the other open.
        for name in ("evil.example", "another"):
            assert get(name, port=port)[0] == 200
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            client.sendall(b"GET /large.bin HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert answer.partition(b"\r\n\r\n")[2] == LARGE
    finally:
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, talk
    process = agentvm.popen("forward", box, "0:9", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        port = int(process.stdout.readline().decode().split()[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
            assert client.recv(1) == b""
    finally:
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=SECONDS)
    assert b"port 9 of web does not answer" in talk


def test_a_server_that_ends_is_gone(agentvm, box):
    agentvm.exec(box, "pkill", "-f", "http.server 8000")
    wait_for(lambda: port_row(agentvm, 8000) is None, "port 8000 is no longer listed")
    status, body = get(f"8000.{address(agentvm)}")
    assert status == 503 and b"Nothing listens on port 8000" in body
    assert port_row(agentvm, 7000)["primary"]


def test_a_killed_manager_costs_nothing(agentvm, box):
    os.kill(agentvm.manager_pid(), signal.SIGKILL)
    wait_for(lambda: port_row(agentvm, 7000), "the next manager finds the ports")
    assert get(f"7000.{address(agentvm)}")[0] == 200


def test_a_work_trees_server_has_names_of_its_own(agentvm, box):
    agentvm.run("worktree", "add", BRANCH, box, "--create")
    agentvm.run("exec", box, "--worktree", BRANCH, "--", "sh", "-c", "echo from the branch > index.html")
    agentvm.run("exec", box, "--worktree", BRANCH, "--detach", "--", "python3", "-m", "http.server", "7500")
    row = wait_for(lambda: port_row(agentvm, 7500), "port 7500 is listed")
    host = address(agentvm)
    assert row["worktree"] == BRANCH and not row["primary"] and row["url"] == f"http://7500.{LABEL}.{host}/"
    assert agentvm.text("open", box, "7500").strip() == row["url"]
    assert BRANCH in agentvm.text("ports", box)
    for name in (f"{LABEL}.{host}", f"7500.{LABEL}.{host}", f"7500.{host}"):
        assert get(name) == (200, b"from the branch\n"), name
    assert get(host) == (200, b"<p>hello from the guest\n")
    # Another's port, a branch without a work tree, and nearly the label.
    for name in (f"7000.{LABEL}.{host}", f"feature.{host}", f"7500.feature.{host}", f"{LABEL[:-1]}.{host}"):
        status, body = get(name)
        assert status == 503 and b"in the work tree" in body, name
    # The host's record says which work trees there are: the server is still there, its name is not.
    agentvm.run("worktree", "remove", BRANCH, box, "--force")
    row = port_row(agentvm, 7500)
    assert row["worktree"] is None and row["url"] == f"http://7500.{host}/"
    assert get(f"{LABEL}.{host}")[0] == 503
    agentvm.exec(box, "pkill", "-f", "http.server 7500")


def test_a_port_has_its_own_number_on_the_host_where_that_is_configured(agentvm, box, home):
    row = port_row(agentvm, 7000)
    assert row["same_port_url"] is None and row["same_port_problem"] == ""
    (home.folder / "config" / "agentvm" / "config.yaml").write_text("proxy:\n  port: 0\n  same_port: true\n")
    agentvm.run("manager", "stop")
    wait_for(lambda: port_row(agentvm, 7000), "the next manager finds the ports")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    row = serve(agentvm, number)
    host = f"{box}.localhost:{number}"
    assert row["same_port_url"] == f"http://{host}/" and row["same_port_problem"] == ""
    assert f"http://{host}/" in agentvm.text("ports", box)
    for family in (socket.AF_INET, socket.AF_INET6):
        assert get(host, family=family) == (200, b"<p>hello from the guest\n")
    for name in (f"localhost:{number}", f"127.0.0.1:{number}", f"{number}.{host}", f"other.localhost:{number}", address(agentvm)):
        status, body = get(name, port=number)
        assert status == 421 and b"hello" not in body, name
    with pytest.raises(ConnectionRefusedError):  # this host, too, and not the loopback address
        socket.create_connection(("127.0.0.2", number), timeout=SECONDS)
    agentvm.exec(box, "pkill", "-f", f"http.server {number}")
    wait_for(lambda: port_row(agentvm, number) is None, f"port {number} is no longer listed")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), timeout=SECONDS)
    # A number of the host's own stays the host's, until it is free.
    with socket.create_server(("127.0.0.1", 0)) as mine:
        number = mine.getsockname()[1]
        row = serve(agentvm, number)
        assert row["same_port_url"] is None and "another program" in row["same_port_problem"]
        assert get(f"{number}.{address(agentvm)}")[0] == 200
    assert port_row(agentvm, number)["same_port_url"] == f"http://{box}.localhost:{number}/"
    agentvm.exec(box, "pkill", "-f", f"http.server {number}")


def test_servers_speak_https_where_that_is_configured(agentvm, box, home):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    assert not (home.state / "proxy-ca").exists()
    config.write_text("proxy:\n  port: 0\n  tls: true\n")
    agentvm.run("manager", "stop")
    row = wait_for(lambda: port_row(agentvm, 7000), "the next manager finds the ports")
    url = agentvm.text("open", box).strip()
    host = url.removeprefix("https://").rstrip("/")
    name, _, port = host.rpartition(":")
    assert url == f"https://{name}:{port}/" and row["url"] == f"https://7000.{host}/"
    assert agentvm.json("status", box)["ports"][0]["url"].startswith("https://")
    check = next(check for check in agentvm.json("doctor", code=(0, 4))["checks"] if check["id"] == "dev-server-certificate")
    certificate = pathlib.Path(check["data"]["file"])
    assert check["status"] == "warn" and str(certificate) in check["remedy"] and "update-ca-certificates" in check["remedy"]
    assert "PRIVATE" not in certificate.read_text()
    key = certificate.parent / "authority.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(certificate.parent.stat().st_mode) == 0o700

    trusting = ssl.create_default_context(cafile=certificate)

    def get_https(server_name):
        with trusting.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), timeout=SECONDS), server_hostname=server_name) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {server_name}:{port}\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))

    for server_name in (name, f"7000.{name}"):
        assert b" 200 " in get_https(server_name) and b"hello from the guest" in get_https(server_name), server_name
    assert f'href="https://7000.{host}/"'.encode() in get_https("localhost")
    for server_name in ("nobody.localhost", "evil.example"):
        with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
            get_https(server_name)
    assert get(host)[0] == 308, "plain http is told where it is"
    before = certificate.read_text()
    agentvm.run("manager", "stop")
    wait_for(lambda: port_row(agentvm, 7000), "the next manager finds the ports")
    assert certificate.read_text() == before, "it is made once"
    config.write_text("proxy:\n  port: 0\n")
    agentvm.run("manager", "stop")
    wait_for(lambda: port_row(agentvm, 7000), "the next manager finds the ports")
    assert address(agentvm).startswith(name)


def test_a_stopped_sandbox_says_so(agentvm, box, home):
    host = address(agentvm)
    agentvm.run("stop", box)
    status, body = get(host)
    assert status == 503 and b"web is stopped" in body and b"agentvm start" in body and str(home.folder).encode() in body
    assert agentvm.run("ports", box, code=2).stdout == b""
    assert agentvm.run("forward", box, "0:7000", code=2).stdout == b""
