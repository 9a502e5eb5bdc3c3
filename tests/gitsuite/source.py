"""Git's tests, from the source package of the installed git: downloaded, unpacked and built far enough to run them. All of it stays
below one folder; the system's package lists and sources are not touched."""

import os
import pathlib
import shutil
import subprocess

MAKE = ("CC=ccache cc", "CFLAGS=-O0 -g0", "NO_CURL=1", "NO_EXPAT=1", "NO_GETTEXT=1", "NO_TCLTK=1", "NO_OPENSSL=1")


class SourceError(Exception):
    """Its text names the step, and the log where there is one."""


def run(command, log, **more):
    with open(log, "a", encoding="utf-8") as out:
        print("$", *command, file=out, flush=True)
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False, **more).returncode
    if code:
        tail = pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SourceError(f"{command[0]} ended with {code} (all of it: {log}):\n{tail}")


def ask(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SourceError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout.strip()


def source_lines(targets):
    """deb-src lines for the sources that binary packages come from ("URI|RELEASE|COMPONENT" a line)."""
    fields = [line.split("|") for line in sorted(set(targets.splitlines())) if line.count("|") == 2]
    return "".join(f"deb-src {uri} {release} {component}\n" for uri, release, component in fields)


class Source:
    """The tree of one version, in `folder`/git-VERSION."""

    def __init__(self, folder):
        self.folder = folder
        self.version = ask("dpkg-query", "-W", "-f", "${source:Version}", "git")
        self.tree = folder / f"git-{self.version.replace(':', '_')}"
        self.log = folder / "source.log"

    def apt(self):
        """Options that keep apt's lists, sources and downloads here."""
        state = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (state / name).mkdir(parents=True, exist_ok=True)
        lines = source_lines(ask("apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"))
        (state / "sources.list").write_text(lines, encoding="utf-8")
        options = {"Dir::Etc::SourceList": state / "sources.list", "Dir::Etc::SourceParts": state / "parts", "Dir::State::Lists": state / "lists",
                   "Dir::Cache": state / "cache", "Acquire::Retries": 3, "APT::Sandbox::User": "root"}
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def unpack(self):
        download = self.folder / "download"
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        options = self.apt()
        run(["apt-get", "-q", *options, "update"], self.log)
        run(["apt-get", "-q", *options, "source", "--download-only", f"git={self.version}"], self.log, cwd=download)
        found = list(download.glob("*.dsc"))
        if len(found) != 1:
            raise SourceError(f"apt-get source left {len(found)} .dsc files in {download}")
        half = self.folder / "unpacking"  # killed in the middle, it is not taken for a whole one
        shutil.rmtree(half, ignore_errors=True)
        run(["dpkg-source", "-x", str(found[0]), str(half)], self.log)
        half.rename(self.tree)

    def ready(self):
        """The tree, with what its tests need besides an installed git."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.tree.is_dir():
            self.unpack()
        if not (self.tree / "t/helper/test-fake-ssh").exists() or not (self.tree / "templates/blt").is_dir():
            jobs = f"-j{os.cpu_count() or 1}"
            run(["make", jobs, *MAKE, "t/helper/test-tool", "t/helper/test-fake-ssh", "GIT-BUILD-OPTIONS"], self.log, cwd=self.tree)
            run(["make", "-C", "templates", "SHELL_PATH=/bin/sh"], self.log, cwd=self.tree)
        return self.tree
