"""What a benchmark measures with, and how it says what came of it."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

RESULTS = Path(__file__).with_name("results")
COMMAND_SECONDS = 60.0
"""A command that takes longer hangs."""


def interleaved(
    subjects: Mapping[str, Callable[[], None]], rounds: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """Time each subject once a round, so that what else the machine does meets all alike.

    Returns:
        milliseconds, by subject, without those of the rounds before the counted ones.
    """
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(-warm_up, rounds):
        for name, run in subjects.items():
            began = time.perf_counter_ns()
            run()
            if number >= 0:
                times[name].append((time.perf_counter_ns() - began) / 1e6)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Return median, minimum, and the 90th of a hundred, in the unit of the times."""
    return {
        "median": statistics.median(times),
        "min": min(times),
        "p90": statistics.quantiles(times, n=10)[-1] if len(times) > 1 else times[0],
    }


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> Callable[[], None]:
    """Return a subject that runs a command to its end; a failure stops the benchmark.

    It waits on a pidfd: a wait of `subprocess` with a timeout sleeps in steps that double up to
    50 ms, and every time it measures comes out as the sum of such steps.
    """

    def run() -> None:
        process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        pidfd = os.pidfd_open(process.pid)
        try:
            ended, _, _ = select.select([pidfd], [], [], COMMAND_SECONDS)
            if not ended:
                process.kill()
        finally:
            os.close(pidfd)
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, arguments)

    return run


def pss(pid: int) -> int:
    """Return the proportional set size of a process in KiB; 0 when it is gone."""
    try:
        text = Path("/proc", str(pid), "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def family(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.name))
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += children.get(one, [])
    return found


def processes() -> set[int]:
    """Return all process ids."""
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}


def name_of(pid: int) -> str:
    """Return the name of a process; empty when it is gone."""
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def arguments_of(pid: int) -> str:
    """Return the command line of a process; empty when it is gone."""
    try:
        text = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.replace("\0", " ")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Draw rows as a table in Markdown; the first is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def keep(name: str, result: object) -> Path:
    """Write the figures of a run as JSON; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = RESULTS / f"{name}-{stamp}.json"
    path.write_text(json.dumps({"machine": machine(), "result": result}, indent=2) + "\n")
    return path


def machine() -> dict[str, str | int | None]:
    """Say on what was measured."""
    return {"kernel": os.uname().release, "cpus": os.cpu_count(), "arch": os.uname().machine}


def compile_ours() -> None:
    """Bring the bytecode of our packages up to date, as an installation does: a checkout's may lag
    behind, and PYTHONDONTWRITEBYTECODE would have every command compile what has changed."""
    for package in ("runtime", "ext", "plugins"):
        compileall.compile_dir(ROOT / package, quiet=1)


def main(
    name: str,
    rounds: int,
    measure: Callable[[int], dict[str, Any]],
    report: Callable[[dict[str, Any]], str],
) -> int:
    """Run the benchmark ``name`` as the command line says, print and keep what came of it."""
    parser = argparse.ArgumentParser(prog=f"./dev bench {name}")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"runs of each (default: {rounds})"
    )
    options = parser.parse_args()
    compile_ours()
    result = measure(options.rounds)
    print(report(result))
    print(f"\nAll figures: {keep(name, result)}")
    return 0
