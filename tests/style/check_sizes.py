"""Files stay small: none over 600 lines, 90 % up to 350, the median at 120 or below."""

import statistics

import repo

LONGEST, NINE_OF_TEN, MEDIAN = 600, 350, 120


def check(root, *_):
    lengths = {name: len(repo.read(root, name).splitlines()) for name in repo.files(root, repo.CODE)}
    findings = [f"{name}: {lines} lines, more than {LONGEST}" for name, lines in lengths.items() if lines > LONGEST]
    ordered = sorted(lengths.values())
    if not ordered:
        return ["no source files found"]
    if statistics.median(ordered) > MEDIAN:
        findings.append(f"the median file has {statistics.median(ordered)} lines, more than {MEDIAN}")
    long = [name for name, lines in lengths.items() if lines > NINE_OF_TEN]
    if len(long) > len(ordered) / 10:
        findings.append(f"{len(long)} of {len(ordered)} files are over {NINE_OF_TEN} lines: {', '.join(long)}")
    return findings


if __name__ == "__main__":
    repo.main(check)
