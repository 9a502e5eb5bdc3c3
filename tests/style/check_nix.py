"""nix/ parses, evaluates against the in-tree fake packages, and knows every library that CMake asks for."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import repo

# Name in cmake/dependencies.cmake -> name in nixpkgs. GTest and the like are for tests: the package builds none.
NIX_NAMES = {
    "boost": "boost", "fmt": "fmt", "libgit2": "libgit2", "libguestfs": "libguestfs-with-appliance", "libseccomp": "libseccomp", "libssh": "libssh", "libvirt": "libvirt",
    "libvirt-qemu": "libvirt", "nlohmann_json": "nlohmann_json", "openssl": "openssl", "spdlog": "spdlog", "yaml-cpp": "yaml-cpp", "zlib": "zlib",
}
NOT_PACKAGED = {"pkgconfig", "threads", "gtest", "benchmark", "rapidcheck"}


def wanted_by_cmake(text):
    names = {name.lower() for name in re.findall(r"find_package\((\S+?)[\s)]", text)}
    for modules in re.findall(r"pkg_check_modules\(\S+ ([^)]*)\)", text):
        names |= {word for word in modules.split() if word.islower()}
    return names - NOT_PACKAGED


def check(root, *_):
    if not shutil.which("nix-instantiate"):
        return ["nix-instantiate is missing: ./bootstrap test installs it (package nix-bin)"]
    folder = pathlib.Path(root).resolve() / "nix"
    findings = []
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:" + str(pathlib.Path(shutil.which("nix-instantiate")).parent), "HOME": home,
                       "NIX_STATE_DIR": home + "/state", "NIX_LOG_DIR": home + "/log", "NIX_REMOTE": "dummy://"}

        def nix(*arguments):
            return subprocess.run(["nix-instantiate", *arguments], env=environment, capture_output=True, text=True, check=False)

        for path in sorted(folder.glob("*.nix")):
            result = nix("--parse", str(path))
            if result.returncode:
                findings.append(f"nix/{path.name}: {result.stderr.strip()[-400:]}")
        result = nix("--eval", "--strict", "--json", str(folder / "check.nix"))
    if result.returncode:
        return findings + [f"nix/check.nix: {result.stderr.strip()[-600:]}"]
    value = json.loads(result.stdout)
    if not value["same"] or value["shell"] != value["dev_shell"]:
        findings.append("nix/flake.nix does not give what package.nix and shell.nix give")
    for name in sorted(wanted_by_cmake(repo.read(root, "cmake/dependencies.cmake"))):
        if NIX_NAMES.get(name) not in value["build"]:
            findings.append(f"nix/package.nix: lacks what cmake/dependencies.cmake calls {name}")
    return findings


if __name__ == "__main__":
    repo.main(check)
