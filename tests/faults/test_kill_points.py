"""The daemon is killed at every named point; what was acknowledged holds, nothing is orphaned."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from boxwood.faultpoints import POINTS
from tests.faults.scenario import (
    FaultyEngine,
    Known,
    Load,
    Witness,
    check_known,
    check_nothing_orphaned,
    faulty_engine,
    in_parallel,
    kill_after,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

CLIENTS = 3
LONGEST = 0.8
"""Seconds after which the daemon is killed at the latest: by then every client is in the midst."""


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyEngine]:
    """An engine with busybox that the tests of this module kill and start again."""
    with faulty_engine(busybox=True) as server:
        yield server


@pytest.fixture(scope="module")
def witness(faulty: FaultyEngine) -> Witness:
    """The container that must not notice."""
    return Witness(faulty)


def settle(engine: FaultyEngine, witness: Witness, *books: Known) -> None:
    """Start the daemon again and check everything."""
    engine.start()
    witness.check()
    for book in books:
        check_known(engine, book)
    for entry in engine.api("GET", "/containers/json?all=1").json():
        if entry["Id"] != witness.id:
            path = f"/containers/{entry['Id']}?force=1&v=1"
            assert engine.api("DELETE", path).status in (204, 404, 409)
    check_nothing_orphaned(engine, witness.id, books)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_point(faulty: FaultyEngine, witness: Witness, point: str) -> None:
    """Each point is hit, and survived."""
    faulty.kill()
    faulty.start_with(f"{point}:1")
    known = Known()
    assert not Load(faulty, known).run(3), f"{point} was never reached"
    assert faulty.reap() == -9
    settle(faulty, witness, known)


def test_killed_at_random_under_load(faulty: FaultyEngine, witness: Witness, soak: bool) -> None:
    """Killed at any moment, with several clients at work."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(200 if soak else 20 - len(POINTS) // 2):
        books = [Known() for _ in range(CLIENTS)]
        killer = kill_after(faulty, dice.uniform(0.0, LONGEST))
        in_parallel(faulty, books, 1000)
        killer.join()
        faulty.reap()
        settle(faulty, witness, *books)
