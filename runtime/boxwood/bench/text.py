"""A report as plain text, and two of them compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from boxwood.bench.frame import Report, Result
from boxwood.bench.statistics import ratio


def amount(value: float, unit: str) -> str:
    """Return ``value`` with a unit a person reads: ``1.23 ms``, ``4.0 MiB``."""
    if unit == "bytes":
        for name in ("B", "KiB", "MiB"):
            if value < 1024:
                return f"{value:.0f} {name}" if name == "B" else f"{value:.1f} {name}"
            value /= 1024
        return f"{value:.1f} GiB"
    if value >= 1:
        return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns, the first of them being the heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def describe(report: Report) -> str:
    """Return all of a report: results, what was left out, and what to think of the figures."""
    rows: list[Sequence[str]] = [("SCENARIO", "SUBJECT", "MEDIAN", "INTERVAL", "SAMPLES", "NOTE")]
    rows += [_row(result) for name in report.scenarios() for result in of(report, name)]
    return table(rows) + "\n" + "\n".join(notes(report)) + "\n"


def of(report: Report, scenario: str) -> list[Result]:
    """Return the results of a scenario, the best first, what failed last."""
    found = [result for result in report.results if result.scenario == scenario]
    return sorted(found, key=lambda result: (bool(result.error), result.median))


def _row(result: Result) -> tuple[str, ...]:
    if result.error:
        return (result.title, result.subject, "-", "-", "0", f"failed: {result.error}")
    low, high = amount(result.low, result.unit), amount(result.high, result.unit)
    note = f"noisy: quartiles {result.spread:.0%} apart" if result.noisy else ""
    middle = amount(result.median, result.unit)
    count = str(len(result.samples))
    return (result.title, result.subject, middle, f"{low} to {high}", count, note)


def notes(report: Report) -> Iterator[str]:
    """Yield the sentences that belong below the figures."""
    for left in report.left_out:
        yield f"Left out: {left.subject}: {left.cause}"
    machine, noise = report.machine, report.noise
    yield (
        f"{machine.kernel}, {machine.processor}, {machine.processors} processors, "
        f"{machine.memory / 2**30:.1f} GiB; Python {machine.python}."
    )
    covered = [result.coverage for result in report.results if not result.error]
    least = min(covered, default=0.0)
    yield (
        f"Medians of up to {report.rounds} rounds after one that does not count; order by seed "
        f"{report.seed}; an interval holds the median with {least:.0%} or more."
    )
    yield (
        f"Load {noise.load_before:.2f} before and {noise.load_after:.2f} after; "
        f"{noise.steal:.1%} of the time stolen by the host."
    )
    if noise.load_before > machine.processors / 2 or noise.steal > 0.02:
        yield "This machine had other things to do: the figures are noise in part."


def compare(old: Report, new: Report) -> str:
    """Return ratios of the new report's medians to the old one's, and what changed for sure."""
    before = {(result.scenario, result.subject): result for result in old.results}
    rows = [("SCENARIO", "SUBJECT", "OLD", "NEW", "RATIO", "INTERVAL 95%", "CHANGE")]
    changed = 0
    for result in new.results:
        was = before.get((result.scenario, result.subject))
        if was is None or was.error or result.error:
            continue
        found = ratio(was.samples, result.samples, new.seed)
        if found is None or was.title != result.title:
            # Another title: measured with other sizes, --quick say.
            continue
        changed += found.significant
        word = ("slower" if found.value > 1 else "faster") if result.unit == "s" else "changed"
        rows.append(
            (
                result.title,
                result.subject,
                amount(was.median, was.unit),
                amount(result.median, result.unit),
                f"{found.value:.2f}",
                f"{found.low:.2f} to {found.high:.2f}",
                word if found.significant else "",
            )
        )
    if len(rows) == 1:
        return "Compared: nothing that both have measured in the same way.\n"
    summary = f"Compared: {len(rows) - 1}; significantly changed: {changed}.\n"
    if old.machine != new.machine:
        summary += "Another machine than that of the old figures: ratios may be its doing.\n"
    return table(rows) + "\n" + summary
