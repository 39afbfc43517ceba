"""The daemon is killed in pulls and pushes: an image is whole or absent, the next try goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from boxwood.faultpoints import SHIP_POINTS
from tests.faults.registry_runs import Goods, Lane
from tests.faults.scenario import GONE, FaultyEngine, faulty_engine, kill_after, orphans
from tests.support.needs import until
from tests.support.registry import Registry, serving

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

LONGEST = 1.6
"""Seconds after which the daemon is killed at the latest: about as long as a held-up pull and push
take."""
ROUNDS, SOAK_ROUNDS = 2, 100


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyEngine]:
    """An engine without images that the tests of this module kill and start again."""
    with faulty_engine(busybox=False) as server:
        yield server


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Debian's registry."""
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def lane(faulty: FaultyEngine, registry: Registry) -> Iterator[Lane]:
    """An image in it, and the way there."""
    with Lane.opened(faulty, registry, 0) as one:
        yield one


class Work:
    """A pull and a push, and what was acknowledged of them."""

    def __init__(self, engine: FaultyEngine, lane: Lane, number: int) -> None:
        self._engine, self._lane, self._number = engine, lane, number
        self._goods = self._load()
        self._pulled = self._pushed = False

    def _load(self) -> Goods:
        return self._lane.load(self._number, random.Random(self._number))

    def run(self, *, push_first: bool, hold_up: bool) -> bool:
        """Do both; False as soon as the daemon does not answer any more."""
        self._lane.proxy.begin(self._number, 1.0 if hold_up else 0.0, "slow")
        try:
            for push in (push_first, not push_first):
                if push:
                    assert self._lane.push(self._goods) == ""
                    self._pushed = True
                else:
                    assert self._lane.pull() == ""
                    self._pulled = True
        except GONE:
            return False
        return True

    def check(self) -> None:
        """What was acknowledged holds, nothing is orphaned, and the next try completes."""
        lane, engine = self._lane, self._engine
        done = engine.cli("system", "fsck", "--deep", "--format", "json", check=False)
        assert json.loads(done.stdout)["Findings"] == [], done.stdout
        until(lambda: not self._left(), f"nothing is left, but there is: {self._left()}")
        assert lane.shown(self._goods.name), "the image that was pushed is gone"
        if lane.shown(lane.name):
            lane.check_pulled()
        else:
            assert not self._pulled, "acknowledged and lost"
            lane.pull_clean()
            lane.check_pulled()
        if self._pushed:
            lane.check_pushed(self._goods)
        lane.push_clean(self._goods)
        lane.check_pushed(self._goods)

    def clear(self) -> None:
        """Remove both images: what stays then belongs to nobody."""
        for name in (self._lane.name, self._goods.name):
            self._lane.remove(name)
        until(lambda: not self._kept(), f"nothing is kept, but there is: {self._kept()}")

    def _kept(self) -> list[str]:
        content = self._engine.data_root / "content"
        places = [content / part for part in ("blobs/sha256", "recipes", "partial", "ingest")]
        return [str(path) for place in places for path in place.iterdir()]

    def _left(self) -> list[str]:
        ingest = self._engine.data_root / "content/ingest"
        return orphans(self._engine, set()) + [str(path) for path in ingest.iterdir()]


@pytest.mark.parametrize("point", SHIP_POINTS)
def test_killed_at_each_point(faulty: FaultyEngine, lane: Lane, point: str) -> None:
    """Each point is hit, and survived."""
    dice = random.Random(point)
    work = Work(faulty, lane, dice.randrange(1 << 32))
    faulty.kill()
    often = point in ("pull.unpacked", "push.packed", "push.sent")
    faulty.start_with(f"{point}:{dice.randint(1, 2) if often else 1}")
    first = point.startswith("push")
    assert not work.run(push_first=first, hold_up=False), f"{point} was never reached"
    assert faulty.reap() == -9
    faulty.start()
    work.check()
    work.clear()


def test_killed_at_random(faulty: FaultyEngine, lane: Lane, soak: bool) -> None:
    """Killed at any moment of a pull and a push that are held up at random bytes."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    hit = 0
    for _ in range(SOAK_ROUNDS if soak else ROUNDS):
        work = Work(faulty, lane, dice.randrange(1 << 32))
        killer = kill_after(faulty, dice.uniform(0.0, LONGEST))
        hit += not work.run(push_first=dice.random() < 0.5, hold_up=True)
        killer.join()
        faulty.reap()
        faulty.start()
        work.check()
        work.clear()
    print(f"{hit} times in the midst")
