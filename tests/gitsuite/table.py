"""Reads table.txt: which scripts run, and which of their cases run without our helper, and why."""

import pathlib
import re

TABLE = pathlib.Path(__file__).resolve().parent / "table.txt"


class TableError(Exception):
    pass


def parse_cases(text):
    """{1, 3, 5, 6} of "1 3 5-6"."""
    cases = set()
    for word in text.split():
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if not found or int(found[1]) < 1 or int(found[2] or found[1]) < int(found[1]):
            raise TableError(f"'{word}' is no case and no range of cases")
        cases |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    return cases


def parse(text):
    """({reason: why}, {script: {case: reason}})."""
    reasons, scripts, script = {}, {}, None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if not line.strip() or line.startswith("#"):
                continue
            if found := re.fullmatch(r"reason (\w+) = (\S.*)", line):
                reasons[found[1]] = found[2]
            elif re.fullmatch(r"t\d{4}-[a-z0-9-]+", line):
                if line in scripts:
                    raise TableError(f"{line} stands twice")
                script = scripts.setdefault(line, {})
            elif (found := re.fullmatch(r"  (\w+): (\d[\d -]*)", line)) and script is not None:
                if found[1] not in reasons:
                    raise TableError(f"no reason is called {found[1]}")
                cases = parse_cases(found[2])
                if twice := cases & script.keys():
                    raise TableError(f"case {min(twice)} stands twice")
                script.update(dict.fromkeys(cases, found[1]))
            else:
                raise TableError(f"not understood: {line}")
        except TableError as error:
            raise TableError(f"table.txt:{number}: {error}") from None
    return reasons, scripts


def load():
    reasons, scripts = parse(TABLE.read_text(encoding="utf-8"))
    unused = reasons.keys() - {reason for cases in scripts.values() for reason in cases.values()}
    if unused:
        raise TableError(f"no case has the reason {min(unused)}")
    return reasons, scripts
