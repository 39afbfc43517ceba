"""A report as one HTML page that stands alone: plots, a table beside each, dark and light."""

from __future__ import annotations

from html import escape

from boxwood.bench.frame import Report, Result
from boxwood.bench.text import amount, notes, of

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1f21; --paper: #fdfdfb; --soft: #62666a;
  --line: #d5d7d4; --bar: #2f6f4f; --whisker: #1d1f21; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e5e2; --paper: #17191a; --soft: #a2a6a9; --line: #3b3f41; --bar: #6fb492;
    --whisker: #e4e5e2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
section > div { display: grid; gap: 1rem; grid-template-columns: 1fr; }
@media (min-width: 48rem) { section > div { grid-template-columns: 1fr 1fr; } }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; }
.bar { fill: var(--bar); } .whisker { stroke: var(--whisker); stroke-width: 2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
.note { color: var(--soft); }
"""
_WIDTH, _ROW = 360, 44
_PLOT = 340
"""Of the bars, in the units of the drawing; what is left shows the whiskers' ends."""


def render(report: Report) -> str:
    """Return the page."""
    title = f"Bench: {escape(report.bench)}"
    body = "".join(_section(report, name) for name in report.scenarios())
    said = "".join(f"<li>{escape(note)}</li>" for note in notes(report))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<main><h1>{title}</h1><p>{escape(report.began)}, {report.seconds:.0f} s. "
        "Bars are medians, lines their intervals; shorter is better.</p>"
        f"<ul class='note'>{said}</ul>{body}</main></body></html>\n"
    )


def _section(report: Report, name: str) -> str:
    results = of(report, name)
    title = escape(results[0].title)
    return (
        f'<section id="{escape(name)}"><h2>{title}</h2><div>'
        f"{_plot(name, title, [result for result in results if not result.error])}"
        f"{_table(title, results)}</div></section>"
    )


def _plot(name: str, title: str, results: list[Result]) -> str:
    if not results:
        return "<p class='note'>Nothing was measured.</p>"
    scale = _PLOT / (max(result.high for result in results) or 1.0)
    height = _ROW * len(results) + 4
    told = "; ".join(f"{item.subject} {amount(item.median, item.unit)}" for item in results)
    parts = [
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" aria-labelledby="t-{escape(name)}">'
        f'<title id="t-{escape(name)}">{title}: {escape(told)}</title>'
    ]
    for number, result in enumerate(results):
        top = number * _ROW
        length, low, high = (scale * value for value in (result.median, result.low, result.high))
        middle = top + 29
        parts.append(
            f'<text x="0" y="{top + 15}">{escape(result.subject)}: '
            f"{escape(amount(result.median, result.unit))}</text>"
            f'<rect class="bar" x="0" y="{top + 21}" width="{max(length, 1):.1f}" height="16"/>'
            f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        )
    return "".join(parts) + "</svg>"


def _table(title: str, results: list[Result]) -> str:
    rows = []
    for result in results:
        if result.error:
            cells = f"<td colspan='3'>failed: {escape(result.error)}</td>"
        else:
            low, high = amount(result.low, result.unit), amount(result.high, result.unit)
            note = ", noisy" if result.noisy else ""
            cells = (
                f"<td>{escape(amount(result.median, result.unit))}</td>"
                f"<td>{escape(low)} to {escape(high)}</td><td>{len(result.samples)}{note}</td>"
            )
        rows.append(f"<tr><th scope='row'>{escape(result.subject)}</th>{cells}</tr>")
    return (
        f"<div class='scroll'><table aria-label='{title}'><thead><tr><th scope='col'>subject</th>"
        "<th scope='col'>median</th><th scope='col'>interval</th><th scope='col'>samples</th>"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
