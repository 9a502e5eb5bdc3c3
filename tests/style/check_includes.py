"""The include table of docs/architecture.md, and the one place of each library's headers."""

import pathlib
import re

import repo

# What a layer may include beside itself: layers as a whole, or single headers of another one.
ALLOWED = {
    "vmm/base": set(),
    "vmm": {"vmm/base"},
    "guest": {"vmm/base", "vmm:root"},
    "sync": {"vmm/base", "guest/streams.hpp"},
    "proxy": {"vmm/base", "guest/streams.hpp"},
}
# The guest's static binary, and the wire format it shares with the host, stand on base alone.
NARROW = {
    "guest/agent/": ("vmm/base/", "guest/protocol/", "guest/agent/"),
    "guest/protocol/": ("vmm/base/", "guest/protocol/"),
}
# Library headers and the folders (or files) they may appear in. Tests may drive a library directly.
LIBRARIES = {
    r"libvirt/": ("vmm/libvirt/",),
    r"libssh/": ("guest/ssh/",),
    r"git2(\.h|/)": ("sync/git/",),
    r"guestfs\.h": ("guest/image/",),
    r"yaml-cpp/": ("vmm/base/yaml.cpp",),
    r"spdlog/": ("vmm/base/log.cpp",),
    r"CLI/": ("cli/",),
    r"boost/(asio|beast)": ("proxy/", "cli/manager/"),
}


def permitted(source, target):
    """Whether a file of layer-path `source` may include the project's header `target`."""
    for folder, prefixes in NARROW.items():
        if source.startswith(folder):
            return target.startswith(prefixes)
    here, there = repo.layer(source), repo.layer(target)
    if here not in ALLOWED:  # cli, tests, bench: everything
        return True
    if there == here or there in ALLOWED[here] or target in ALLOWED[here]:
        return True
    # vmm's ports and spec are the headers at its root; what is in its subfolders is private.
    return there == "vmm" and "vmm:root" in ALLOWED[here] and target.count("/") == 1


def check(root, *_):
    findings = []
    headers = set(repo.files(root, repo.CPP))
    for name in repo.files(root, repo.CPP):
        source_layer = repo.layer(name)
        if source_layer is None:
            continue
        for line, target, quoted in repo.includes(repo.read(root, name)):
            where = f"{name}:{line}"
            if quoted:
                generated = pathlib.PurePath(target).parts[0] == "generated"
                if target not in headers and not generated:
                    findings.append(f'{where}: "{target}" names no header from the root of the project')
                elif not generated and not permitted(name, target):
                    findings.append(f'{where}: {source_layer} must not include "{target}"')
            elif source_layer not in ("tests", "bench"):
                for pattern, homes in LIBRARIES.items():
                    if re.match(pattern, target) and not name.startswith(homes):
                        findings.append(f"{where}: <{target}> belongs to {' and '.join(homes)} alone")
    return findings


if __name__ == "__main__":
    repo.main(check)
