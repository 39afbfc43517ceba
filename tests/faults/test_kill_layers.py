"""The daemon is killed while layers come and go; nothing is lost, nothing is orphaned.

What holds afterwards is what `system fsck --deep` looks at, and what was acknowledged.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from boxwood.faultpoints import IMAGE_POINTS
from tests.faults.scenario import GONE, FaultyEngine, faulty_engine, kill_after, orphans
from tests.integration.engine.test_layers import tree_tar
from tests.integration.images.make import docker_old
from tests.support.needs import until
from tests.support.scripted import Scripted

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

LONGEST = 1.2
"""Seconds after which the daemon is killed at the latest: all of a round takes about as long."""
ROUNDS, SOAK_ROUNDS = 3, 200


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyEngine]:
    """An engine without images that the tests of this module kill and start again."""
    with faulty_engine(busybox=False) as server:
        yield server


def files(dice: random.Random, count: int) -> bytes:
    """Return the tar of random files."""
    return tree_tar({f"file-{number}": dice.randbytes(4000) for number in range(count)})


@pytest.fixture(scope="module")
def registry() -> Iterator[Scripted]:
    """A registry with an image of three layers."""
    dice = random.Random(1)
    with Scripted(*(files(dice, 80) for _ in range(3))).serving() as one:
        yield one


class Work:
    """Load, pull, import, prune and remove images until the daemon is gone."""

    def __init__(self, engine: FaultyEngine, registry: Scripted, dice: random.Random) -> None:
        self._engine = engine
        self._pulled = registry.image
        self.here: set[str] = set()
        """Names whose presence was acknowledged, and that nobody has begun to remove."""
        self.gone: set[str] = set()
        """Names whose removal was acknowledged."""
        base = files(dice, 300)
        self._archives = {
            f"loaded{number}:latest": docker_old(
                base, files(dice, 200), names=(f"loaded{number}:latest",)
            )
            for number in range(2)
        }
        self._tar = gzip.compress(files(dice, 100), 6)

    def run(self) -> bool:
        """Do all of it; False as soon as the daemon does not answer any more."""
        try:
            for name, archive in self._archives.items():
                self._good("POST", "/images/load", archive)
                self._add(name)
            self._good("POST", f"/images/create?fromImage={quote(self._pulled, safe='')}")
            self._add(self._pulled)
            self._good("POST", "/images/create?fromSrc=-&repo=imported", self._tar)
            self._add("imported:latest")
            until(self._dropped, "an archive is dropped")
            self._remove("loaded0:latest")
            self._remove(self._pulled)
            self._good("POST", '/images/prune?filters={"dangling":["true"]}')
        except GONE:
            return False
        return True

    def _good(self, method: str, path: str, body: Any = None) -> None:
        answer = self._engine.api(method, path, body, timeout=60)
        assert answer.status == 200, (method, path, answer.body)
        # What broke off is not whole, and what went wrong says so.
        for line in answer.body.splitlines():
            assert b"errorDetail" not in line, line

    def _add(self, name: str) -> None:
        self.here.add(name)
        self.gone.discard(name)

    def _dropped(self) -> bool:
        self._engine.api("GET", "/_ping")
        # What stays are the configs, and the manifest that one image came with.
        blobs = os.listdir(self._engine.data_root / "content/blobs/sha256")
        return len(blobs) <= len(self.here) + 1

    def _remove(self, name: str) -> None:
        self.here.discard(name)
        self._good("DELETE", f"/images/{quote(name, safe='')}")
        self.gone.add(name)

    def check(self) -> None:
        """What was acknowledged holds; records and disk agree, byte by byte."""
        engine = self._engine
        entries = engine.api("GET", "/images/json").json()
        names = {name for entry in entries for name in entry["RepoTags"] or ()}
        assert self.here <= names, f"acknowledged and lost: {self.here - names}"
        assert not self.gone & names, f"removed and back: {self.gone & names}"
        done = engine.cli("system", "fsck", "--deep", "--format", "json", check=False)
        assert json.loads(done.stdout)["Findings"] == [], done.stdout
        until(lambda: not left(engine), f"nothing is left, but there is: {left(engine)}")

    def clear(self) -> None:
        """Remove all images: what stays then belongs to nobody."""
        engine = self._engine
        for entry in engine.api("GET", "/images/json").json():
            assert engine.api("DELETE", f"/images/{entry['Id']}?force=1").status == 200
        folder = engine.data_root / "content"
        kept = [path for part in ("blobs/sha256", "recipes") for path in (folder / part).iterdir()]
        assert kept == []
        snapshots = engine.data_root / "storage/overlay/committed"
        assert {path.name for path in snapshots.iterdir()} <= {"init-scratch"}
        # What was verified on its way stays for a later pull; nobody else has it.
        for path in (folder / "partial").iterdir():
            path.unlink()


def left(engine: FaultyEngine) -> list[str]:
    """Name what is there for nobody and is cleaned away in the background."""
    ingest: Path = engine.data_root / "content/ingest"
    return orphans(engine, set()) + [str(path) for path in ingest.iterdir()]


@pytest.mark.parametrize("point", IMAGE_POINTS)
def test_killed_at_each_point(faulty: FaultyEngine, registry: Scripted, point: str) -> None:
    """Each point is hit, and survived."""
    dice = random.Random(point)
    work = Work(faulty, registry, dice)
    faulty.kill()
    # Only what came compressed is kept and dropped later: that is one.
    faulty.start_with(f"{point}:{1 if point.startswith('drop') else dice.randint(1, 2)}")
    assert not work.run(), f"{point} was never reached"
    assert faulty.reap() == -9
    faulty.start()
    work.check()
    work.clear()


def test_killed_at_random(faulty: FaultyEngine, registry: Scripted, soak: bool) -> None:
    """Killed at any moment, again and again, without clearing up in between."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    work = Work(faulty, registry, dice)
    for _ in range(SOAK_ROUNDS if soak else ROUNDS):
        killer = kill_after(faulty, dice.uniform(0.0, LONGEST))
        while work.run():
            pass
        killer.join()
        faulty.reap()
        faulty.start()
        work.check()
    work.clear()
