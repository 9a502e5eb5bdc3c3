"""What every figure shares: interleaved pairs, a judgement on the ratio, one table, JSON with history, an SVG plot."""

import dataclasses
import json
import os
import pathlib
import statistics
import time

NOISE = 0.10  # A against itself: above this nothing is judged


@dataclasses.dataclass
class Figure:
    name: str
    product: str
    peer: str
    target: float  # product / peer, at most
    pairs: list = dataclasses.field(default_factory=list)  # (product seconds, peer seconds)

    def measure(self, run_product, run_peer, count):
        """`count` interleaved pairs after one that is thrown away; who goes first alternates."""
        run_product(), run_peer()
        for index in range(count):
            if index % 2:
                second = run_peer()
                self.pairs.append((run_product(), second))
            else:
                first = run_product()
                self.pairs.append((first, run_peer()))

    def column(self, which):
        return [pair[which] for pair in self.pairs]

    @property
    def ratio(self):
        return statistics.median(p / q for p, q in self.pairs)

    def processor(self, which):
        """Median seconds of the processor by who used them; empty where a side does not tell."""
        told = [value.cpu for value in self.column(which) if hasattr(value, "cpu")]
        return {who: round(statistics.median(cpu[who] for cpu in told), 3) for who in (told[0] if told else ())}

    @property
    def noise(self):
        """How far the peer's odd runs lie from its even ones."""
        values = self.column(1)
        odd, even = statistics.median(values[1::2]), statistics.median(values[::2])
        return abs(odd / even - 1)

    @property
    def verdict(self):
        if self.noise > NOISE:
            return "not judged: the peer differs from itself by %.0f %%" % (100 * self.noise)
        return "met" if self.ratio <= self.target else "missed"

    def row(self):
        def cell(which):
            values, cpu = self.column(which), self.processor(which)
            told = ", cpu " + " + ".join(f"{seconds:.2f} {who}" for who, seconds in cpu.items()) if cpu else ""
            return "%.2f s (p95 %.2f)%s" % (statistics.median(values), percentile(values, 0.95), told)

        return f"| {self.name} | {cell(0)} | {cell(1)} | {self.ratio:.2f} | <= {self.target} | {self.verdict} |"

    def value(self):
        return {"name": self.name, "product": self.product, "peer": self.peer, "pairs": self.pairs,
                "cpu": [self.processor(0), self.processor(1)], "ratio": self.ratio, "noise": self.noise,
                "target": self.target, "verdict": self.verdict, "load": os.getloadavg()[0], "cores": os.cpu_count(),
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def svg(figure):
    """Every pair as two dots on one line of seconds."""
    width, left, step = 720, 90, 22
    height = step * (len(figure.pairs) + 3)
    top = max(max(pair) for pair in figure.pairs) * 1.05

    def x(seconds):
        return left + seconds / top * (width - left - 20)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<text x="10" y="16">{figure.name}: {figure.product} (dark) and {figure.peer} (light), seconds; ratio {figure.ratio:.2f}</text>']
    for index, pair in enumerate(figure.pairs):
        y = step * (index + 2)
        parts.append(f'<text x="10" y="{y + 4}">pair {index + 1}</text><line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts += [f'<circle cx="{x(seconds):.1f}" cy="{y}" r="5" fill="{fill}"/>' for seconds, fill in zip(pair, ("#234", "#9bc"))]
    base = step * (len(figure.pairs) + 2)
    parts += [f'<text x="{x(mark * top / 5):.0f}" y="{base}">{mark * top / 5:.1f}</text>' for mark in range(6)]
    return "\n".join(parts + ["</svg>\n"])


def report(figures, folder):
    """Prints the table and keeps each figure's run: FOLDER/<name>.json (one line per run) and .svg (the last run)."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    print("| figure | product | peer | ratio | target | verdict |\n|-|-|-|-|-|-|")
    for figure in figures:
        print(figure.row())
        with (folder / f"{figure.name}.json").open("a", encoding="utf-8") as history:
            history.write(json.dumps(figure.value()) + "\n")
        (folder / f"{figure.name}.svg").write_text(svg(figure), encoding="utf-8")
