"""Nothing in the project names the machine it was written on, and nothing is left marked as unfinished."""

import glob
import os
import pathlib
import re

import repo

# Split, so that this file does not find itself.
MARKERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
FOLDERS = re.compile(r"(?<![\w.$}~*-])/(" + "|".join(["wo" + "rk", "ro" + "ot"]) + r")/")
# A guest has a home of root, too; these may speak of it.
ROOT_OF_GUEST = ("guest/", "tests/")
OFFICIAL = ("debian.org", "npmjs.org", "localhost", "127.0.0.1")


def mirror_hosts(etc="/etc", home=None, environment=None):
    """Hosts that this machine's package sources and npm configuration name, the official ones aside."""
    environment = os.environ if environment is None else environment
    home = home or environment.get("HOME", "/")
    texts = [value for key, value in environment.items() if re.fullmatch(r"(?i)(https?|all)_proxy|npm_config_registry", key)]
    patterns = (f"{etc}/apt/sources.list", f"{etc}/apt/sources.list.d/*", f"{etc}/apt/apt.conf", f"{etc}/apt/apt.conf.d/*",
                f"{etc}/npmrc", f"{home}/.npmrc")
    for path in (p for pattern in patterns for p in glob.glob(pattern)):
        try:
            lines = pathlib.Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        texts += [line for line in lines if not line.lstrip().startswith(("#", ";", "//"))]
    hosts = {host.lower() for text in texts for host in re.findall(r"https?://(?:[^/@\s\"']*@)?([^/:\s\"';]+)", text)}
    return sorted(host for host in hosts if "." in host and not host.endswith(OFFICIAL))


def check(root, *_, hosts=None):
    hosts = mirror_hosts() if hosts is None else hosts
    findings = []
    for name in repo.files(root):
        data = (pathlib.Path(root) / name).read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
            where = f"{name}:{number}"
            if MARKERS.search(line):
                findings.append(f"{where}: marked as unfinished")
            folder = FOLDERS.search(line)
            if folder and not (folder.group(1).startswith("ro") and name.startswith(ROOT_OF_GUEST)):
                findings.append(f"{where}: names a folder of one machine")
            findings += [f"{where}: names a package mirror of this machine ({host})" for host in hosts if host in line.lower()]
    return findings


if __name__ == "__main__":
    repo.main(check)
