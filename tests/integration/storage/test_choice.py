"""Which driver is used when nobody has said so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwood.drivers.choice import choose
from boxwood.errors import Conflict, NotFound
from boxwood.testing.storage import mounted
from tests.support.engine import Engine
from tests.support.loops import loop_fs
from tests.support.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def upon_overlay(tmp_path: Path) -> Iterator[Path]:
    """A place where the kernel's overlay does not work."""
    outer = choose(tmp_path / "outer", "overlay", {}).driver
    asyncio.run(outer.prepare("a", None))
    asyncio.run(outer.commit("a", "layer"))
    with mounted(asyncio.run(outer.prepare("c", "layer")), tmp_path / "mnt") as place:
        yield place


def test_the_best_that_works(tmp_path: Path) -> None:
    choice = choose(tmp_path, "", {})
    assert (choice.name, choice.driver.name) == ("overlay", "overlay")
    assert choice.reason == "the best that works here"


def test_another_where_that_does_not_work(upon_overlay: Path) -> None:
    """It is said which was not chosen, and nothing of those is left."""
    choice = choose(upon_overlay, "", {})
    assert choice.name == "fuse-overlayfs"
    assert choice.reason == "the best that works here (not overlay, btrfs, erofs)"
    assert [path.name for path in upon_overlay.iterdir()] == ["fuse-overlayfs"]


def test_on_btrfs_overlay_is_still_the_best(tmp_path: Path) -> None:
    with loop_fs("btrfs", tmp_path) as place:
        assert choose(place, "", {}).name == "overlay"


def test_a_root_that_is_in_use_stays_with_its_driver(tmp_path: Path) -> None:
    vfs = choose(tmp_path, "vfs", {})
    assert vfs.reason == "as configured"
    assert choose(tmp_path, "", {}).name == "overlay"  # it was tried, and holds nothing
    asyncio.run(vfs.driver.prepare("a", None))
    again = choose(tmp_path, "", {})
    assert (again.name, again.reason) == ("vfs", "the data root holds its snapshots")


def test_two_in_use_are_an_error(tmp_path: Path) -> None:
    for name in ("vfs", "overlay"):
        asyncio.run(choose(tmp_path, name, {}).driver.prepare("a", None))
    with pytest.raises(Conflict, match=r"several drivers \(overlay, vfs\)"):
        choose(tmp_path, "", {})
    assert choose(tmp_path, "vfs", {}).name == "vfs"


def test_an_unknown_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"overlay2: not installed; there are .*overlay, "):
        choose(tmp_path, "overlay2", {})


def test_info_says_which_and_why(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(busybox=False)
    info = engine.api("GET", "/info").json()
    assert info["Driver"] == "overlay"
    assert ["Chosen", "the best that works here"] in info["DriverStatus"]
