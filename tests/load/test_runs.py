"""Runs in a row and side by side: all right, and the machine and the daemon as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.load.footprint import Footprint, at_rest, settled
from tests.load.runs import by_api, mixed
from tests.support.engine import Engine, running
from tests.support.needs import need_root

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

WARM_UP = 40
"""Runs until the daemon's caches and its allocator have what they want."""
ALLOWANCE = 1536
"""KiB: what an allocator's arenas and the ring of 256 events differ by, whatever the count."""
AT_ONCE = 64


@pytest.fixture(scope="module")
def loaded() -> Iterator[Engine]:
    """An engine that has run a while: what it holds now is what it holds for good."""
    need_root()
    server = Engine()
    with running(server):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(by_api, [server] * AT_ONCE))
        for way in mixed(WARM_UP, seed=1):
            way(server)
        yield server


def seeded() -> int:
    """Choose and print a seed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return seed


def check_same(engine: Engine, before: Footprint) -> None:
    """Fail with what is not as before."""
    assert engine.api("GET", "/containers/json?all=1").json() == []
    left = settled(engine, before, ALLOWANCE)
    assert not left, "left by the load:\n  " + "\n  ".join(left)


def test_in_a_row(loaded: Engine, soak: bool) -> None:
    """One after another, by every kind of client."""
    before = at_rest(loaded)
    for way in mixed(1000 if soak else 100, seeded()):
        way(loaded)
    check_same(loaded, before)


def test_side_by_side(loaded: Engine, soak: bool) -> None:
    """All at the same time; the daemon is asked for nothing but its work."""
    before = at_rest(loaded)
    ways = mixed(AT_ONCE, seeded()) if soak else [*[by_api] * (AT_ONCE - 12), *mixed(12, seeded())]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(way, loaded) for way in ways]:
            done.result()
    check_same(loaded, before)
