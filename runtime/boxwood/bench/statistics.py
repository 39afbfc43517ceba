"""What is said of a handful of samples: a median, and how far it can be trusted."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import msgspec

CONFIDENCE = 0.95
RESAMPLES = 2000
"""Of a bootstrap: the ends of its interval then move by less than a hundredth from seed to seed."""


class Interval(msgspec.Struct, frozen=True):
    """``low`` to ``high`` holds the median with probability ``coverage``."""

    low: float
    high: float
    coverage: float


def median_interval(samples: Sequence[float]) -> Interval:
    """Return an interval of the median by order statistics, which assumes no distribution.

    The narrowest symmetric one that covers :data:`CONFIDENCE`; for fewer than six samples it is
    all of them, and ``coverage`` says how little that is.
    """
    ordered = sorted(samples)
    count = len(ordered)
    rank, tail = 0, 2.0 * 0.5**count
    while rank < (count - 1) // 2:
        more = 2.0 * math.comb(count, rank + 1) * 0.5**count
        if tail + more > 1.0 - CONFIDENCE:
            break
        rank, tail = rank + 1, tail + more

    return Interval(ordered[rank], ordered[count - 1 - rank], 1.0 - min(tail, 1.0))


def spread(samples: Sequence[float]) -> float:
    """Return the distance of the quartiles as a part of the median; 0 for a single sample."""
    middle = statistics.median(samples)
    if len(samples) < 2 or not middle:
        return 0.0
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / middle


class Ratio(msgspec.Struct, frozen=True):
    """Median of the new samples to that of the old ones, with its interval of 95 %."""

    value: float
    low: float
    high: float
    significant: bool
    """1 lies outside the interval, and there are samples enough to say so."""


MIN_SAMPLES = 5
"""On each side, to call a change significant: with four, chance alone orders them once in 35."""


def ratio(old: Sequence[float], new: Sequence[float], seed: int = 0) -> Ratio | None:
    """Compare two runs of the same by a bootstrap; None when the old median is not positive."""
    if statistics.median(old) <= 0:
        return None
    source = random.Random(seed)
    drawn = sorted(
        statistics.median(source.choices(new, k=len(new)))
        / max(statistics.median(source.choices(old, k=len(old))), 1e-12)
        for _ in range(RESAMPLES)
    )
    edge = int(RESAMPLES * (1.0 - CONFIDENCE) / 2)
    low, high = drawn[edge], drawn[-1 - edge]
    enough = min(len(old), len(new)) >= MIN_SAMPLES
    value = statistics.median(new) / statistics.median(old)
    return Ratio(value, low, high, enough and not low <= 1.0 <= high)
