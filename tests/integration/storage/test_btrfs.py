"""What is btrfs's own: subvolumes, quotas, places that are not btrfs."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import SnapshotOptions, StorageDriver
from boxwood.errors import Unavailable
from boxwood.testing.storage import plain_offload
from boxwood_plugins.storage import btrfs
from tests.support.loops import loop_fs


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with loop_fs("btrfs", tmp_path) as root:
        yield root


def make(root: Path) -> StorageDriver:
    driver = manager.select("storage", "btrfs", root=root, options={})
    assert isinstance(driver, StorageDriver)
    driver.offload = plain_offload
    return driver


def prepare(driver: StorageDriver, key: str, parent: str | None, size: int = 0) -> Path:
    options = SnapshotOptions(size_limit=size)
    return Path(asyncio.run(driver.prepare(key, parent, options=options))[0].source)


def subvolumes(place: Path) -> int:
    """Count the subvolumes of a file system, at any depth."""
    fd = os.open(place, os.O_RDONLY)
    try:
        order = [5]  # the file system's own tree
        for found in order:
            order.extend(btrfs.nested(fd, found))
        return len(order) - 1
    finally:
        os.close(fd)


def test_a_place_that_is_not_btrfs(tmp_path: Path) -> None:
    with loop_fs("tmpfs", tmp_path) as root, pytest.raises(Unavailable, match="lies on tmpfs"):
        make(root)


def test_what_is_committed_is_read_only_also_after_a_crash(place: Path) -> None:
    driver = make(place / "root")
    (prepare(driver, "a", None) / "file").write_text("kept")
    asyncio.run(driver.commit("a", "layer"))
    tree = place / "root/committed/layer/fs"
    with pytest.raises(OSError, match="Read-only") as caught:
        (tree / "new").write_text("no")
    assert caught.value.errno == errno.EROFS
    fd = os.open(tree, os.O_RDONLY)
    btrfs.set_read_only(fd, False)  # as if the crash had come before
    os.close(fd)
    make(place / "root")
    with pytest.raises(OSError, match="Read-only"):
        (tree / "new").write_text("no")


def test_subvolumes_of_containers_go_too(place: Path) -> None:
    """However deep: none is left, and no path of theirs is followed."""
    driver = make(place / "root")
    where = prepare(driver, "a", None)
    for depth in range(40):
        fd = os.open(where, os.O_RDONLY)
        btrfs.create(fd, f"nested{depth % 2}")
        if depth < 3:
            btrfs.create(fd, "beside")
        os.close(fd)
        where = where / f"nested{depth % 2}"
    assert subvolumes(place) == 44
    driver.remove("a")
    asyncio.run(driver.cleanup())
    assert subvolumes(place) == 0
    assert list((place / "root/trash").iterdir()) == []


def write(path: Path, count: int) -> None:
    """Write so many MiB to a file, on disk each."""
    with path.open("wb") as file:
        for _ in range(count):
            file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())


def test_a_quota_is_kept(place: Path) -> None:
    """What a container writes beyond its limit is refused; its image is not counted."""
    driver = make(place / "root")
    (prepare(driver, "a", None) / "big").write_bytes(os.urandom(30 << 20))
    asyncio.run(driver.commit("a", "layer"))
    tree = prepare(driver, "c", "layer", size=10 << 20)
    os.sync()
    with pytest.raises(OSError, match="quota") as caught:
        write(tree / "more", 40)
    assert caught.value.errno == errno.EDQUOT
    assert (tree / "big").stat().st_size == 30 << 20
    free = prepare(driver, "d", "layer")
    (free / "more").write_bytes(bytes(20 << 20))


def test_usage_is_what_was_added(place: Path) -> None:
    driver = make(place / "root")
    (prepare(driver, "a", None) / "big").write_bytes(bytes(1 << 20))
    asyncio.run(driver.commit("a", "layer"))
    (prepare(driver, "c", "layer") / "more").write_bytes(bytes(1000))
    assert asyncio.run(driver.usage("c")).bytes == 1000
