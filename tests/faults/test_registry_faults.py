"""A registry that cuts, stalls, corrupts and lies, at random bytes of random requests.

``BOXWOOD_REGISTRY_SEED=N pytest tests/faults/test_registry_faults.py`` repeats one run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.faults.disk import settled_tree, tree
from tests.faults.registry_runs import WAITS, Lane
from tests.support.engine import Engine, running
from tests.support.needs import need_root
from tests.support.registry import Registry, serving

pytestmark = [pytest.mark.root, pytest.mark.timeout(3000)]

RUNS, SOAK_RUNS = 30, 1000
LANES = 6
"""Runs side by side: they mostly wait."""
LARGE_RUNS, SOAK_LARGE_RUNS = 1, 50
LARGE = (14 << 20, 30_000)
"""Bytes of layers: the first one is worth several connections."""
NARROW = 7e6
"""Bytes a second, at which it is."""
CONNECTIONS = 16
"""That a transport keeps to one host at most."""


@pytest.fixture(scope="module")
def house() -> Iterator[Engine]:
    """An engine that has little patience."""
    need_root()
    with running(Engine(variables=WAITS), busybox=False) as server:
        assert isinstance(server, Engine)
        yield server


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Debian's registry."""
    with serving() as one:
        yield one


def descriptors(house: Engine) -> int:
    """Return how many descriptors the daemon has open."""
    return len(os.listdir(f"/proc/{house.pid}/fd"))


def run(lane: Lane, seed: int, **more: float) -> str:
    """Make one run; a failure says how to repeat it."""
    try:
        return lane.run(seed, **more)
    except Exception as error:
        raise AssertionError(
            f"BOXWOOD_REGISTRY_SEED={seed}: {error}\n{lane.told()}\n{lane.engine.log[-3000:]}"
        ) from error


def test_faults_at_any_byte(house: Engine, registry: Registry, soak: bool) -> None:
    """Each pull and push ends in the right image or in one clear error, and leaves nothing.

    After an error the next one, which nobody harms, completes, without what was here already.
    """
    chosen = os.environ.get("BOXWOOD_REGISTRY_SEED", "")
    first = random.SystemRandom().randrange(1 << 32)
    count = SOAK_RUNS if soak else RUNS
    seeds = [int(chosen)] if chosen else range(first, first + count)
    print(f"seeds from {first}")
    results: Counter[str] = Counter()
    with ExitStack() as stack:
        lanes = [stack.enter_context(Lane.opened(house, registry, one)) for one in range(LANES)]
        before, open_before = tree(house.data_root), descriptors(house)
        with ThreadPoolExecutor(LANES) as clients:
            for at in range(0, len(seeds), 4 * LANES):
                batch = seeds[at : at + 4 * LANES]
                work = [
                    clients.submit(_turns, lane, [one for one in batch if one % LANES == number])
                    for number, lane in enumerate(lanes)
                ]
                for one in work:
                    results.update(one.result())
                assert not settled_tree(house, before)
        more = descriptors(house) - open_before
        assert more <= LANES * CONNECTIONS, f"{more} more descriptors"
        fsck = house.cli("system", "fsck", "--deep", check=False)
        assert fsck.returncode == 0, fsck.stdout
    for text, often in results.most_common():
        print(f"{often:5} {text}")


def test_faults_in_parts(house: Engine, registry: Registry, soak: bool) -> None:
    """The same where a layer comes in several parts at a time: none that is here comes again."""
    chosen = os.environ.get("BOXWOOD_REGISTRY_SEED", "")
    first = int(chosen) if chosen else random.SystemRandom().randrange(1 << 32)
    count = 1 if chosen else SOAK_LARGE_RUNS if soak else LARGE_RUNS
    with Lane.opened(house, registry, LANES, LARGE, NARROW) as lane:
        before = tree(house.data_root)
        # Without faults: it does come in parts.
        lane.proxy.begin(0, 0.0)
        assert lane.pull() == ""
        lane.remove(lane.name)
        assert any(one.start for one in lane.proxy.log), lane.told()
        for seed in range(first, first + count):
            print(seed, run(lane, seed, pushes=0.0))
            assert not settled_tree(house, before)


def _turns(lane: Lane, seeds: list[int]) -> list[str]:
    return [run(lane, seed) for seed in seeds]
