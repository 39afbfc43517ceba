"""What is overlay's own: places that cannot hold it, long paths, older kernels' way to mount."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxwood.drivers import manager
from boxwood.drivers.storage import SnapshotOptions, StorageDriver
from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood.execution import mounting
from boxwood.testing.storage import mounted
from tests.support.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


def overlay(root: Path, **options: str) -> StorageDriver:
    driver = manager.select("storage", "overlay", root=root, options=options)
    assert isinstance(driver, StorageDriver)
    return driver


def chain(driver: StorageDriver, length: int) -> str:
    """Commit layers that each hold a file, and return the key of the topmost."""
    parent = None
    for number in range(length):
        asyncio.run(driver.prepare("new", parent))
        target = driver.unpack_target("new")
        assert target is not None
        (target.path / f"f{number}").write_text(str(number))
        parent = f"layer-{number}"
        asyncio.run(driver.commit("new", parent))
    assert parent is not None
    return parent


def names(fd: int) -> set[str]:
    inside = os.open(".", os.O_RDONLY, dir_fd=fd)
    try:
        return set(os.listdir(inside))
    finally:
        os.close(inside)
        os.close(fd)


def test_a_place_that_cannot_hold_it(tmp_path: Path) -> None:
    """Overlay upon overlay: one sentence at start, with the way out."""
    outer = overlay(tmp_path / "outer")
    chain(outer, 1)
    with (
        mounted(asyncio.run(outer.prepare("c", "layer-0")), tmp_path / "mnt") as place,
        pytest.raises(Unavailable, match="use --storage-driver vfs"),
    ):
        overlay(place / "inner")


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="nonsense"):
        overlay(tmp_path / "root", nonsense="1")


def test_the_root_looks_like_its_parents(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("new", None))
    target = driver.unpack_target("new")
    assert target is not None
    target.path.chmod(0o711)
    os.chown(target.path, 5, 6)
    asyncio.run(driver.commit("new", "one"))
    with mounted(asyncio.run(driver.prepare("c", "one")), tmp_path / "mnt") as tree:
        status = tree.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o711, 5, 6)


def test_long_paths(tmp_path: Path) -> None:
    """A data root with a name longer than fsconfig(2) takes."""
    driver = overlay(tmp_path / ("x" * 200) / ("y" * 100))
    top = chain(driver, 3)
    asyncio.run(driver.prepare("c", top))
    assert names(mounting.open_root(driver.mounts("c"))) == {"f0", "f1", "f2"}


def own_mounts(tmp_path: Path) -> list[str]:
    """Return what this process sees mounted of the test's own; others mount things meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(tmp_path) in line]


@pytest.mark.parametrize("length", [2, 60])
def test_as_older_kernels_mount(length: int, tmp_path: Path) -> None:
    """All lower directories in one string, with what must be escaped, or by descriptors."""
    driver = overlay(tmp_path / "a:b,c")
    top = chain(driver, length)
    [wanted] = asyncio.run(driver.prepare("c", top, options=SnapshotOptions(volatile=True)))
    before = own_mounts(tmp_path)
    with ExitStack() as stack:
        fd = mounting._overlay_joined(wanted.options, False, stack)
    assert names(fd) == {f"f{number}" for number in range(length)}
    assert own_mounts(tmp_path) == before


def test_no_host_mount_is_seen(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("c", chain(driver, 2)))
    before = own_mounts(tmp_path)
    fd = mounting.open_root(driver.mounts("c"))
    assert own_mounts(tmp_path) == before
    os.close(fd)
    with pytest.raises(Unsupported):
        mounting.open_root([])


def test_read_only(tmp_path: Path) -> None:
    driver = overlay(tmp_path / "root")
    asyncio.run(driver.prepare("c", chain(driver, 1)))
    fd = mounting.open_root(driver.mounts("c"), read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir("x", dir_fd=fd)
    os.close(fd)
