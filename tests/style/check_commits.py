"""Commit subjects read `area: Imperative summary`."""

import re

import repo

FORM = re.compile(r"^[a-z0-9.][a-z0-9./_+-]*(, [a-z0-9./_+-]+)*: [A-Z][^\n]*[^.\s]$")
LONGEST = 100
# Words that end like a past or a progressive form and are imperatives all the same.
IMPERATIVES = {"bring", "embed", "feed", "need", "seed", "speed", "shed", "ping", "string"}


def judge(subject):
    """What is wrong with a subject, or None."""
    if not FORM.match(subject):
        return "is not of the form 'area: Imperative summary'"
    if len(subject) > LONGEST:
        return f"is longer than {LONGEST} characters"
    verb = re.split(r"[\s:,]", subject.split(": ", 1)[1])[0].lower()
    if re.search(r"(ed|ing)$", verb) and verb not in IMPERATIVES or verb in ("adds", "fixes", "makes", "removes", "uses", "changes"):
        return f"starts with '{verb}', which is no imperative"
    return None


def check(root, *_):
    log = repo.git(root, "log", "--no-merges", "--format=%h %s")
    if log is None:
        print("no history here: nothing to check")
        return []
    pairs = (line.split(" ", 1) for line in log.splitlines())
    return [f"{commit}: '{subject}' {problem}" for commit, subject in pairs if (problem := judge(subject))]


if __name__ == "__main__":
    repo.main(check)
