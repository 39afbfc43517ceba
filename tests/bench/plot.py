"""`python -m tests.bench.plot GROWTH.json OUT.svg`: how cost grows, drawn for docs/performance.md.

GROWTH.json is what `./dev bench layers --part growth --json` writes. Both axes are logarithmic: a
straight line of slope one is a cost that grows with the number. The colours are the reader's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import msgspec

from boxwood.bench import frame, text

WIDTH, PANEL = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 96, 34, 40
"""Margins of a panel: what the axes say, and the names of the lines."""
STYLE = """
svg { background: #ffffff; }
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.name { font-weight: 600; font-size: 14px; }
.mid { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: #d1d9e0; } path { fill: none; stroke-width: 2; }
.c0 { stroke: #0969da; } .c1 { stroke: #1a7f37; } .c2 { stroke: #bc4c00; }
.c3 { stroke: #8250df; }
.ext4 { stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; } text { fill: #f0f6fc; } .grid { stroke: #3d444d; }
  .c0 { stroke: #58a6ff; } .c1 { stroke: #3fb950; } .c2 { stroke: #f0883e; }
  .c3 { stroke: #ab7df8; }
}
"""
Line = Sequence[tuple[float, float]]


def lines(report: frame.Report, head: str) -> dict[tuple[str, str], Line]:
    """Return number and median of the scenarios `HEAD[WORD-]NUMBER-WHERE`, by word and where."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for result in report.results:
        if result.scenario.startswith(head) and not result.error:
            *word, number, where = result.scenario.removeprefix(head).split("-")
            points = found.setdefault(("-".join(word), where), [])
            points.append((float(number), result.median))
    return {key: tuple(sorted(points)) for key, points in found.items()}


class Scale:
    """One logarithmic axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        """Take from the power of ten below the values to the one above, between two places."""
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._step = start, (end - start) / (self.high - self.low)

    def at(self, value: float) -> float:
        """Return where a value stands."""
        return self._start + (math.log10(value) - self.low) * self._step

    def marks(self) -> list[float]:
        """Return the powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def panel(top: float, title: str, below: str, drawn: Mapping[tuple[str, str], Line]) -> str:
    """Draw one set of lines, `top` from above."""
    points = [point for line in drawn.values() for point in line]
    across = Scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = Scale([y for _, y in points], top + PANEL - BOTTOM, top + TOP)
    parts = [f'<text class="name" x="8" y="{top + 20}">{escape(title)}</text>']
    for mark in up.marks():
        y = up.at(mark)
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{text.amount(mark, "s")}</text>',
        ]
    foot = top + PANEL - BOTTOM + 18
    for mark in across.marks():
        parts.append(f'<text class="mid" x="{across.at(mark):.1f}" y="{foot}">{mark:,.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{foot + 17}">{escape(below)}</text>')
    words = list(dict.fromkeys(word for word, _ in drawn))
    ends: list[float] = []
    for (word, where), line in sorted(drawn.items(), key=lambda item: -item[1][-1][1]):
        path = "L".join(f"{across.at(x):.1f} {up.at(y):.1f}" for x, y in line)
        parts.append(f'<path class="c{words.index(word) % 4} {where}" d="M{path}"/>')
        # Names of lines that end side by side stand one below the other.
        y = max([up.at(line[-1][1]) + 4, *(end + 15 for end in ends[-1:])])
        ends.append(y)
        name = f"{word} {where}".strip()
        parts.append(
            f'<text x="{across.at(line[-1][0]) + 6:.1f}" y="{y:.1f}">{escape(name)}</text>'
        )
    return "\n".join(parts)


def _only(drawn: Mapping[tuple[str, str], Line], place: str) -> dict[tuple[str, str], Line]:
    """Return the lines of one place, no longer called by it."""
    return {(word, ""): line for (word, where), line in drawn.items() if where == place}


def render(report: frame.Report) -> str:
    """Return the picture: by files of a layer, by layers below a snapshot."""
    files, layers = lines(report, "grow-"), lines(report, "deep-")
    panels = [
        (f"Time for a layer of so many files, {place}", "files", _only(files, place))
        for place in dict.fromkeys(where for _, where in files)
    ]
    if layers:
        panels.append(("Snapshot and mount on so many layers", "layers, overlay", layers))
    told = "; ".join(
        f"{title}: {word or where}, {text.amount(line[0][1], 's')} for {line[0][0]:,.0f}, "
        f"{text.amount(line[-1][1], 's')} for {line[-1][0]:,.0f}"
        for title, _, drawn in panels
        for (word, where), line in drawn.items()
    )
    body = "\n".join(panel(PANEL * number, *each) for number, each in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {PANEL * len(panels)}"'
        ' role="img" aria-labelledby="title desc">\n<title id="title">How cost grows</title>\n'
        f'<desc id="desc">{escape(told)}</desc>\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def main() -> None:
    """Read the report, write the picture."""
    report = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=frame.Report)
    Path(sys.argv[2]).write_text(render(report))


if __name__ == "__main__":
    main()
