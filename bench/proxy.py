"""The reverse proxy against nginx: one core each, the same upstream (another nginx), the same load (wrk)."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import figures

SECONDS = 2
NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s; sendfile on; keepalive_requests 1000000000;
  {body}
}}
"""
UPSTREAM = "server {{ listen 127.0.0.1:{port}; root {folder}/www; }}"
PEER = """upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering on; proxy_max_temp_file_size 0; }} }}"""


def missing(build):
    programs = [name for name in ("nginx", "wrk") if not find(name)]
    return programs if (build / "bench" / "agentvm-bench-proxy").exists() else [*programs, "agentvm-bench-proxy (ninja bench builds it)"]


def find(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def nginx(folder, name, body, **values):
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, body=body.format(folder=folder, **values)))
    process = subprocess.Popen([find("nginx"), "-c", str(config), "-e", str(folder / f"{name}.log")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", values["port"]), timeout=1):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not come up: {(folder / f'{name}.log').read_text()}")
            time.sleep(0.05)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
        yield children
    finally:
        process.terminate()
        process.wait()


def load(port, host, path, connections):
    """(requests, median latency in seconds) of some seconds of wrk."""
    out = subprocess.run([find("wrk"), "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H", f"Host: {host}",
                          f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out, out
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()
    return requests, float(value) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def measure(build, pairs):
    """Three figures: CPU per 100 000 small answers, CPU per GiB of 1 MiB answers, 10 000 times the median latency of one connection."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "www").mkdir()
        (folder / "www" / "small").write_bytes(b"x" * 100)
        (folder / "www" / "large").write_bytes(b"x" * (1 << 20))
        os.chmod(folder, 0o755)
        upstream, peer_port = free_port(), free_port()
        stack.enter_context(nginx(folder, "upstream", UPSTREAM, port=upstream))
        peer_pids = stack.enter_context(nginx(folder, "peer", PEER, port=peer_port, upstream=upstream))
        ours = stack.enter_context(subprocess.Popen([build / "bench" / "agentvm-bench-proxy", str(upstream)], stdin=subprocess.PIPE,
                                                    stdout=subprocess.PIPE, text=True))
        stack.callback(ours.stdin.close)
        our_port = int(ours.stdout.readline())

        def product(path, connections):
            return (our_port, f"box.localhost:{our_port}", path, connections), [ours.pid]

        def peer(path, connections):
            return (peer_port, "localhost", path, connections), peer_pids

        def cpu_per_request(side, path, connections, scale):
            arguments, pids = side(path, connections)
            before = cpu_seconds(pids)
            requests, _ = load(*arguments)
            return (cpu_seconds(pids) - before) / requests * scale

        small = figures.Figure("proxy-small", "CPU per 100 000 answers of 100 bytes", "nginx", 1.0)
        small.measure(lambda: cpu_per_request(product, "/small", 32, 1e5), lambda: cpu_per_request(peer, "/small", 32, 1e5), pairs)
        large = figures.Figure("proxy-large", "CPU per GiB in answers of 1 MiB", "nginx", 1.0)
        large.measure(lambda: cpu_per_request(product, "/large", 8, 1024), lambda: cpu_per_request(peer, "/large", 8, 1024), pairs)
        latency = figures.Figure("proxy-latency", "10 000 median latencies of one connection", "nginx", 1.0)
        latency.measure(lambda: load(*product("/small", 1)[0])[1] * 1e4, lambda: load(*peer("/small", 1)[0])[1] * 1e4, pairs)
        return [small, large, latency]
