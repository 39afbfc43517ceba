"""The storage drivers that are installed, and a place that each can work in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

from boxwood.drivers import manager
from boxwood.drivers.storage import StorageDriver
from boxwood.errors import BoxwoodError, NotFound
from boxwood.execution import mounting
from boxwood.execution.worker_jobs import JOBS, translate
from tests.support.loops import loop_fs
from tests.support.needs import need, need_program
from tests.support.paths import clear_room, make_room

DRIVERS = sorted(
    point.name
    for point in entry_points(group="boxwood.storage")
    if point.value.startswith("boxwood_plugins.")
)
"""All that the distribution itself brings."""

CHOSEN = os.environ.get("BOXWOOD_TEST_STORAGE", "")
"""The driver that engines and the posture tests are to use; empty: as ever."""

PROGRAMS = {"aufs": "fuse-overlayfs", "fuse-overlayfs": "fuse-overlayfs"}
"""What a driver needs from Debian."""

KERNELS = {"erofs": (6, 12)}
"""What a driver needs at least."""


@contextmanager
def _on_loop(kind: str) -> Iterator[Path]:
    room = make_room("fs")
    try:
        with loop_fs(kind, room) as place:
            yield place
    finally:
        clear_room(room)


PLACES: dict[str, Callable[[], AbstractContextManager[Path]]] = {
    "btrfs": lambda: _on_loop("btrfs"),
}
"""Drivers that want another file system than the tests' own: what makes a folder on it."""


@contextmanager
def place_for(driver: str) -> Iterator[Path | None]:
    """A folder that the driver can work in, None: any. What the driver needs is asked for."""
    if driver in PROGRAMS:
        need_program(PROGRAMS[driver])
    least = KERNELS.get(driver, (0, 0))
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    need(release >= least, f"Linux {least[0]}.{least[1]}")
    if driver not in PLACES:
        yield None
        return
    with PLACES[driver]() as place:
        yield place


async def offload(job: str, arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Do a worker's job in a child, as workers do: what it opens, it leaves to its end."""
    return _in_a_child(job, dict(arguments), list(fds))


def _in_a_child(job: str, arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _serve_job(job, arguments, fds, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    done, answer = pickle.loads(said)
    if not done:
        raise answer
    found: dict[str, Any] = answer
    return found


def _serve_job(job: str, arguments: dict[str, Any], fds: list[int], pipe: int) -> NoReturn:
    said = b""
    try:
        try:
            said = pickle.dumps((True, JOBS[job].run(arguments, fds)))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            failed = error if isinstance(error, BoxwoodError) else translate(error)
            said = pickle.dumps((False, failed))
        with open(pipe, "wb") as file:
            file.write(said)
    finally:
        os._exit(0)


def make_driver(name: str, root: Path, **options: str) -> StorageDriver:
    """Make a driver as the engine would."""
    driver = manager.select("storage", name, root=root, options=options)
    assert isinstance(driver, StorageDriver)
    driver.offload = offload
    driver.mounter = mounting.open_root
    return driver


class Roots:
    """Containers' roots on one driver, all of one image, which is made once."""

    def __init__(self, name: str, fill: Callable[[Path], None]) -> None:
        """``fill`` is given the empty tree of the image."""
        self._stack = contextlib.ExitStack()
        try:
            place = self._stack.enter_context(place_for(name))
            room = make_room("s", parent=place)
            if place is None:  # else it goes with its file system: btrfs's subvolumes resist rm
                self._stack.callback(clear_room, room)
            self.driver = make_driver(name, room / "root")
            with self._opened("image-new", None) as root:
                fill(Path(f"/proc/self/fd/{root}"))
            asyncio.run(self.driver.commit("image-new", "image"))
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _opened(self, key: str, parent: str | None) -> Iterator[int]:
        asyncio.run(self.driver.prepare(key, parent))
        root = asyncio.run(self.driver.open_root(key))
        try:
            yield root
        finally:
            os.close(root)

    @contextmanager
    def new(self) -> Iterator[int]:
        """A root as a detached mount, by its descriptor; it is removed at the end."""
        key = f"c{secrets.token_hex(8)}"
        try:
            with self._opened(key, "image") as root:
                yield root
        finally:
            with contextlib.suppress(NotFound):
                self.driver.remove(key)
                asyncio.run(self.driver.cleanup())

    def close(self) -> None:
        """Remove all of it."""
        self._stack.close()
