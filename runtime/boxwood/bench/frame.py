"""The frame of all benches: cases are measured round by round, and a report says what came of it.

Terms
-----
subject
    What is measured beside others: a driver in a place, say.
scenario
    What each subject is asked to do; one value comes of it, in the scenario's unit.
case
    One scenario of one subject: a coroutine function that prepares, measures, cleans up, and
    returns the value.
round
    Every case once, in an order drawn anew: what else the machine does meets all alike.

A case that fails is said with its sentence, and is not asked again; the others go on.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from boxwood.bench.statistics import median_interval, spread
from boxwood.errors import BoxwoodError, InvalidArgument

SCHEMA = 1
"""Of the JSON form (``schema.json``); a change that an older reader misreads raises it."""
NOISY = 0.25
"""Distance of the quartiles to the median from which a result is called noisy."""

Unit = Literal["s", "bytes"]
Measure = Callable[[], Awaitable[float]]
Tell = Callable[[str], None]


class Scenario(msgspec.Struct, frozen=True):
    """What is measured: a short name, a sentence, and the unit of its value; less is better."""

    name: str
    title: str
    unit: Unit = "s"


class Case(msgspec.Struct, frozen=True):
    """One scenario of one subject.

    ``rounds`` caps how often a slow one is measured, 0: no cap; where it is 1, no round that does
    not count goes before.
    """

    scenario: Scenario
    subject: str
    measure: Measure
    rounds: int = 0


class Result(msgspec.Struct, frozen=True):
    """What came of a case: samples in the order they were taken, or the error that stopped it."""

    scenario: str
    title: str
    subject: str
    unit: Unit
    samples: list[float] = []
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    coverage: float = 0.0
    spread: float = 0.0
    noisy: bool = False
    error: str = ""


class LeftOut(msgspec.Struct, frozen=True):
    """A subject that cannot run here, and its sentence."""

    subject: str
    cause: str


class Machine(msgspec.Struct, frozen=True):
    """Where it ran. ``memory`` is bytes."""

    kernel: str
    architecture: str
    processor: str
    processors: int
    memory: int
    python: str


class Noise(msgspec.Struct, frozen=True):
    """What else went on: load averages of a minute, and the part of time that a host stole."""

    load_before: float
    load_after: float
    steal: float


class Report(msgspec.Struct, frozen=True):
    """All of a bench; its JSON form is what ``--compare`` reads."""

    schema: int
    bench: str
    began: str
    seconds: float
    seed: int
    rounds: int
    machine: Machine
    noise: Noise
    results: list[Result]
    left_out: list[LeftOut] = []

    def scenarios(self) -> list[str]:
        """Return the names of the scenarios, in the order of the first results."""
        return list(dict.fromkeys(result.scenario for result in self.results))


class Run:
    """One bench under way.

    Args:
        bench: its name, such as ``storage``.
        rounds: how often each case counts; one more before them does not.
        seed: of the order.
        tell: is told the progress.
    """

    def __init__(self, bench: str, rounds: int, seed: int, tell: Tell) -> None:
        self._bench, self._rounds, self._seed, self._tell = bench, rounds, seed, tell
        self._random = random.Random(seed)
        self._began = time.time()
        self._load = os.getloadavg()[0]
        self._ticks = _ticks()
        self._results: list[Result] = []
        self._left_out: list[LeftOut] = []

    def leave_out(self, subject: str, cause: str) -> None:
        """Note that ``subject`` cannot run here."""
        self._left_out.append(LeftOut(subject, cause))

    async def measure(self, cases: Sequence[Case]) -> None:
        """Run all cases round by round and keep their results."""
        samples: list[list[float]] = [[] for _ in cases]
        errors: dict[int, str] = {}
        for number in range(-1, self._rounds):
            order = list(range(len(cases)))
            self._random.shuffle(order)
            for step, index in enumerate(order):
                case = cases[index]
                done = len(samples[index])
                if index in errors or (case.rounds and done >= case.rounds):
                    continue
                if number < 0 and case.rounds == 1:
                    continue
                what = f"round {number + 1} of {self._rounds}, {step + 1} of {len(order)}"
                self._tell(f"{what}: {case.subject}: {case.scenario.title}")
                try:
                    value = await case.measure()
                except (BoxwoodError, OSError) as error:
                    errors[index] = str(error)
                    continue
                if number >= 0:
                    samples[index].append(value)
        self._results += [
            conclude(case, samples[index], errors.get(index, ""))
            for index, case in enumerate(cases)
        ]

    def report(self) -> Report:
        """Return what has been measured so far."""
        ticks = _ticks()
        total = sum(ticks) - sum(self._ticks)
        stolen = (ticks[7] - self._ticks[7]) / total if total and len(ticks) > 7 else 0.0
        return Report(
            SCHEMA,
            self._bench,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            time.time() - self._began,
            self._seed,
            self._rounds,
            describe_machine(),
            Noise(self._load, os.getloadavg()[0], stolen),
            self._results,
            self._left_out,
        )


def conclude(case: Case, samples: list[float], error: str) -> Result:
    """Return the result of a case; with an error, its samples do not count."""
    scenario = case.scenario
    head = (scenario.name, scenario.title, case.subject, scenario.unit)
    if error or not samples:
        return Result(*head, error=error or "not measured")
    interval = median_interval(samples)
    wide = spread(samples)
    return Result(
        *head,
        samples,
        statistics.median(samples),
        interval.low,
        interval.high,
        interval.coverage,
        wide,
        wide > NOISY,
    )


def describe_machine() -> Machine:
    """Return what of this machine a reader of the figures wants to know."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    release = f"{platform.system()} {platform.release()}"
    count = len(os.sched_getaffinity(0))
    version = platform.python_version()
    return Machine(release, platform.machine(), processor, count, memory, version)


def read_report(path: Path) -> Report:
    """Read a report that ``--json`` wrote.

    Raises:
        InvalidArgument: it cannot be read, is no report, or one of another schema.
    """
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Version).schema
        if version != SCHEMA:
            raise InvalidArgument(
                f"bench: {path}: has schema {version}, this program compares schema {SCHEMA}"
            )
        return msgspec.json.decode(data, type=Report)
    except OSError as error:
        raise InvalidArgument(f"bench: {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"bench: {path}: not a report of a bench: {error}") from error


class _Version(msgspec.Struct):
    schema: int


def _ticks() -> list[int]:
    """Return the processors' times of proc(5) ``stat``: user, nice, system, ..., steal."""
    with open("/proc/stat", encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1:9]]
