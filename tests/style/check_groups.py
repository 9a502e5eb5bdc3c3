"""Files compiled in one group keep their meaning: what one file has in its own namespace is not what another of its target calls.

The compiler refuses two equal names there, but takes two functions of one name and different parameters for overloads, and a call in either
file may go to the other's. Files whose names meet are listed as ALONE in their CMakeLists.txt (see AGENTVM_UNITY). Targets that a loop of CMake makes are not looked at.
"""

import itertools
import posixpath
import re

import repo

IGNORED = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"', re.S)
OWN = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.S | re.M)
CALL = re.compile(r"(?<![\w.])(?<!->)(?<!::)([A-Za-z_]\w*)\s*\(")
TYPE = re.compile(r"(?:class|struct|enum class|enum|union)\s+(\w+)")
MACRO = re.compile(r"[A-Z_\d]+")
TARGET = re.compile(r"^agentvm_(?:library|test)\((\w+)(.*?)\)\n", re.S | re.M)
GIVEN = re.compile(r"^set\((\w+) (.*?)\)\n", re.S | re.M)
GENERATED = "${CMAKE_CURRENT_BINARY_DIR}/"  # texts as arrays, no code
WORDS = {"SOURCES", "ALONE", "LINK", "PRIVATE", "TIMEOUT", "NO_PCH", "NEEDS_IMAGE"}


def plain(text):
    return IGNORED.sub(lambda found: '""' if found.group(0)[0] in '"R' else "", text)


def own_names(text):
    """(functions, types) that stand in the file's own namespaces, at the start of a line as the format has it."""
    functions, types = set(), set()
    for part in OWN.findall(text):
        for line in plain(part).splitlines():
            if not line or line[0] in " \t}#":
                continue
            found = TYPE.match(line)
            if found:
                types.add(found.group(1))
                continue
            found = re.search(r"\b(\w+)\s*\(", line)
            if found and found.group(1) != "void" and not MACRO.fullmatch(found.group(1)):
                functions.add(found.group(1))
    return functions, types


def grouped(root):
    """(target, files compiled in groups, words that cannot be told) of each CMakeLists.txt."""
    for name in repo.files(root, ["CMakeLists.txt"]):
        text = re.sub(r"#[^\n]*", "", repo.read(root, name))
        for variable, value in GIVEN.findall(text):
            text = text.replace("${%s}" % variable, value)
        for target, rest in TARGET.findall(text):
            part, sources, unknown = None, [], []
            for word in rest.split():
                if word in WORDS:
                    part = word
                elif part == "SOURCES" and not word.startswith(GENERATED):
                    folder = "" if word.startswith("${CMAKE_SOURCE_DIR}/") else posixpath.dirname(name)
                    path = posixpath.normpath(posixpath.join(folder, word.removeprefix("${CMAKE_SOURCE_DIR}/")))
                    (unknown if "$" in path else sources).append(path)
            yield target, sources, unknown


def check(root, *_):
    known = set(repo.files(root, repo.CPP))
    findings, seen = [], 0
    for target, sources, unknown in grouped(root):
        findings += [f"{target}: what {word} stands for cannot be told here" for word in unknown]
        findings += [f"{target}: there is no {source}" for source in sources if source not in known]
        own, calls, words = {}, {}, {}
        for source in known.intersection(sources):
            text = repo.read(root, source)
            own[source] = own_names(text)
            calls[source] = set(CALL.findall(plain(text)))
            words[source] = set(re.findall(r"(?<![\w.])(?<!->)(?<!::)\w+", plain(text)))
        seen += len(own)
        for one, other in itertools.permutations(sorted(own), 2):
            functions, types = own[one]
            for name in sorted(functions & calls[other] | types & words[other]):
                findings.append(f"{one}: its own {name} is a name that {other} uses, too; one of them must be ALONE in {target}")
    return findings if seen else ["no sources compiled in groups found"]


if __name__ == "__main__":
    repo.main(check)
