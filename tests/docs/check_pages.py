"""Every command that a page tells the reader to type exists, with its options, and every link leads somewhere. Usage: check_pages.py ROOT BUILD"""

import pathlib
import re
import subprocess
import sys

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\./)?(?:bootstrap|agentvm) [^`]+)`")


def documents(root):
    root = pathlib.Path(root)
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


def commands_in(text):
    """Command lines of shell blocks, transcripts ("$ ...") and inline code that start one of our programs."""
    for language, block in FENCE.findall(text):
        for line in block.splitlines():
            if language in ("sh", "bash", "shell") or line.startswith("$ "):
                yield line.removeprefix("$ ").split(" #")[0].strip()
    yield from INLINE.findall(FENCE.sub("", text))


class Programs:
    """What the built program and the script accept."""

    def __init__(self, root, build):
        self.agentvm = str(pathlib.Path(build) / "bin" / "agentvm")
        self.verbs = set(re.findall(r"^#   \./bootstrap (\w+)", (pathlib.Path(root) / "bootstrap").read_text(), re.MULTILINE)) | {"uninstall"}
        self.helps = {}

    def help(self, words):
        """The help of a command, or "" when there is none."""
        if words not in self.helps:
            result = subprocess.run([self.agentvm, *words, "--help"], capture_output=True, text=True, check=False, timeout=30)
            self.helps[words] = result.stdout if result.returncode == 0 else ""
        return self.helps[words]

    def judge(self, line):
        """What is wrong with a command line, or None."""
        words = line.split()
        while words and (re.fullmatch(r"\w+=\S*", words[0]) or words[0] == "sudo"):
            words.pop(0)
        program = words[0].rsplit("/", 1)[-1] if words else ""
        words = words[1:]
        if program == "bootstrap":
            return None if not words or words[0] in self.verbs else f"bootstrap has no '{words[0]}'"
        if program != "agentvm" or not words:
            return None
        if "--" in words:
            words = words[: words.index("--")]
        if words[:1] in (["--version"], ["--help"]):
            return None
        text = self.help(tuple(words[:2])) if len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]) else ""
        text = text or self.help(tuple(words[:1]))
        if not text:
            return f"agentvm has no '{' '.join(words[:2])}'"
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text):
                return f"'agentvm {words[0]}' has no {option}"
        return None


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def bad_links(path, text):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name) if name else path
        if not other.exists():
            yield f"the link {target} leads nowhere"
        elif anchor and anchor not in {slug(h) for h in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)}:
            yield f"the link {target} names no heading"


def check(root, build):
    programs, findings = Programs(root, build), []
    if not programs.help(("start",)):
        findings.append(f"{programs.agentvm} start --help says nothing")
    for path in documents(root):
        text, name = path.read_text(), path.relative_to(root)
        if "reference" not in path.parts:
            findings += [f"{name}: {problem} (in: {line})" for line in commands_in(text) if (problem := programs.judge(line))]
        findings += [f"{name}: {problem}" for problem in bad_links(path, text)]
    return findings


if __name__ == "__main__":
    found = check(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2])
    print("\n".join(found))
    sys.exit(1 if found else 0)
