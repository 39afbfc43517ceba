"""A tree that was changed, committed and changed again is the same on every driver, to the byte.

The layers' tars of all drivers are compared, of a snapshot that is in use and of committed ones;
and each tar, applied on another driver, gives the same tree there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwood.drivers.storage import ApplyRequest, StorageDriver
from tests.support.needs import need_root
from tests.support.paths import clear_room, make_room
from tests.support.storage import DRIVERS, make_driver, place_for

MOMENT = 1_600_000_000 * 10**9
"""The time of all that is written: no clock is to make a difference."""


def first(tree: Path) -> None:
    """What the lowest layer has."""
    for name in ("etc", "gone/deep", "again/below", "stays"):
        (tree / name).mkdir(parents=True)
    for name in ("etc/file", "gone/deep/file", "again/old", "again/below/old", "stays/file", "top"):
        (tree / name).write_text(name)
    os.link(tree / "stays/file", tree / "stays/hard")
    (tree / "etc/link").symlink_to("file")
    (tree / "becomes-dir").write_text("file")
    (tree / "becomes-file").mkdir()
    (tree / "becomes-file/inside").write_text("x")
    os.mkfifo(tree / "etc/fifo")
    os.chown(tree / "etc/file", 12, 34)
    (tree / "top").chmod(0o4755)


def second(tree: Path) -> None:
    """Deletions, replacements, directories made again, attributes."""
    for name in ("gone/deep/file", "again/old", "again/below/old", "becomes-dir"):
        (tree / name).unlink()
    (tree / "becomes-file/inside").unlink()
    for name in ("gone/deep", "gone", "again/below", "again", "becomes-file"):
        (tree / name).rmdir()
    (tree / "again").mkdir()
    (tree / "again/new").write_text("new")
    (tree / "becomes-dir").mkdir()
    (tree / "becomes-dir/x").write_text("x")
    (tree / "becomes-file").write_text("file")
    (tree / "etc/file").write_text("changed")
    os.setxattr(tree / "etc/file", "user.colour", b"blue")
    (tree / "etc/link").unlink()
    (tree / "etc/link").symlink_to("elsewhere")
    (tree / "stays").chmod(0o711)
    tree.chmod(0o711)
    os.setxattr(tree, "user.colour", b"red")
    os.chown(tree / "top", 5, 6)
    (tree / "top").chmod(0o755)


def third(tree: Path) -> None:
    """Changes of changes: what was replaced goes, what was deleted comes back."""
    assert os.getxattr(tree, "user.colour") == b"red"  # the root too is as it was left
    (tree / "again/new").unlink()
    (tree / "again/old").write_text("back")
    (tree / "gone").mkdir()
    (tree / "gone/other").write_text("other")
    (tree / "becomes-dir/x").unlink()
    (tree / "becomes-dir").rmdir()
    (tree / "becomes-dir").write_text("a file again")
    (tree / "becomes-file").unlink()
    (tree / "becomes-file").mkdir()
    (tree / "etc/link").unlink()
    (tree / "big").write_bytes(b"b" * 300_000)


def settle(tree: Path) -> None:
    """Set the times of all files and directories, deepest first."""
    for at, directories, files in os.walk(tree, topdown=False):
        for name in (*files, *directories):
            path = Path(at, name)
            if path.lstat().st_mtime_ns != MOMENT:
                os.utime(path, ns=(MOMENT, MOMENT), follow_symlinks=False)
    os.utime(tree, ns=(MOMENT, MOMENT))


@contextmanager
def driver_of(name: str) -> Iterator[StorageDriver]:
    with place_for(name) as place:
        room = make_room("s", parent=place)
        try:
            yield make_driver(name, room / "root")
        finally:
            if place is None:
                clear_room(room)


async def tar_of(driver: StorageDriver, key: str, path: Path) -> bytes:
    with path.open("wb") as sink:
        await driver.diff(key, sink.fileno())
    return path.read_bytes()


async def changed(driver: StorageDriver, key: str, change: Callable[[Path], None]) -> None:
    root = await driver.open_root(key)
    try:
        tree = Path(f"/proc/self/fd/{root}")
        change(tree)
        settle(tree)
    finally:
        os.close(root)


async def stages(driver: StorageDriver, folder: Path) -> list[bytes]:
    """Make the three layers; return their tars, of the last before and after its commit too."""
    found = []
    parent = None
    await driver.prepare("n0", None)
    for number, change in enumerate((first, second, third)):
        if number:
            await driver.prepare(f"n{number}", parent)
        await changed(driver, f"n{number}", change)
        found.append(await tar_of(driver, f"n{number}", folder / "tar"))
        parent = f"l{number}"
        await driver.commit(f"n{number}", parent)
        found.append(await tar_of(driver, parent, folder / "tar"))
    return found


async def applied(driver: StorageDriver, tars: list[bytes], folder: Path) -> list[bytes]:
    """Apply layers one upon the other; return the tars that they give again."""
    found = []
    parent = None
    for number, body in enumerate(tars):
        await driver.prepare(f"a{number}", parent)
        (folder / "in").write_bytes(body)
        with (folder / "in").open("rb") as stream:
            done = await driver.apply(f"a{number}", stream.fileno(), ApplyRequest())
        assert done.diff_id == f"sha256:{hashlib.sha256(body).hexdigest()}"
        parent = f"m{number}"
        await driver.commit(f"a{number}", parent)
        found.append(await tar_of(driver, parent, folder / "out"))
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The layers as the plainest driver has them: whole copies, compared."""
    need_root()
    with driver_of("vfs") as driver:
        return asyncio.run(stages(driver, tmp_path_factory.mktemp("reference")))


def names(body: bytes, folder: Path) -> list[str]:
    (folder / "look").write_bytes(body)
    with tarfile.open(folder / "look") as archive:
        return [f"{m.name} {m.mode:o} {m.uid} {m.mtime} {m.pax_headers}" for m in archive]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_same_layers(driver: str, reference: list[bytes], tmp_path: Path) -> None:
    with driver_of(driver) as made:
        found = asyncio.run(stages(made, tmp_path))
        for number, (body, wanted) in enumerate(zip(found, reference, strict=True)):
            assert names(body, tmp_path) == names(wanted, tmp_path), number
            assert body == wanted, number
        again = asyncio.run(applied(made, reference[1::2], tmp_path))
        for number, (body, wanted) in enumerate(zip(again, reference[1::2], strict=True)):
            assert names(body, tmp_path) == names(wanted, tmp_path), number
            assert body == wanted, number
