"""What the tests of the drivers that fuse-overlayfs serves share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from boxwood.drivers.storage import StorageDriver
from tests.support.needs import need_program, need_root, until
from tests.support.storage import PROGRAMS, make_driver

T = TypeVar("T")


def make(name: str, root: Path, **options: str) -> StorageDriver:
    """Make a driver as the engine would, if this machine has what it needs."""
    need_root()
    if name in PROGRAMS:
        need_program(PROGRAMS[name])
    return make_driver(name, root, **options)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


@contextmanager
def opened(driver: StorageDriver, key: str, **more: bool) -> Iterator[Path]:
    """The tree of an active snapshot or a view as a path."""
    fd = run(driver.open_root(key, **more))
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def layer(
    driver: StorageDriver, name: str, parent: str | None, fill: Callable[[Path], None]
) -> str:
    """Commit a snapshot that was changed through its mount."""
    run(driver.prepare(f"{name}-new", parent))
    with opened(driver, f"{name}-new") as tree:
        fill(tree)
    run(driver.commit(f"{name}-new", name))
    return name


def servers(root: Path) -> list[int]:
    """The processes that serve a driver's snapshots: those that hold something below its root."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "comm").read_text() != "fuse-overlayfs\n":
                continue
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(str(root)) for link in links):
            found.append(int(process.name))
    return found


def wait_for_no_servers(root: Path) -> None:
    """Wait until nothing serves anything of this driver."""
    until(lambda: not servers(root), "the servers have ended", seconds=10)
