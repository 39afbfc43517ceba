"""The task: a process tree in a sandbox on a root, watched by a shim.

What containers and build steps are both made of. Nothing here knows a record, an image or a
client's request.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boxwood.drivers.isolation import TaskHandle
from boxwood.errors import BoxwoodError
from boxwood.execution.shim import Shim
from boxwood.faultpoints import fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boxwood.drivers.isolation import Bundle, IsolationDriver
    from boxwood.execution.shim import Client, ShimConfig

log = logging.getLogger(__name__)

LATER = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0)
"""Seconds between the attempts to remove what a hung process holds: more than an hour in all. The
next start of the daemon tries again."""

PROGRAM_FILE = "program"
SPEC_FILE = "spec.json"


@dataclass(slots=True)
class Task:
    """A task that runs: its shim, and what the isolation driver knows it by."""

    shim: Shim
    handle: TaskHandle
    started_at: int
    """Nanoseconds since the epoch, never later than the task's own first moment."""


class Launcher:
    """Starts tasks; what it made for one that does not start, it unmakes."""

    def __init__(self) -> None:
        self._launching: dict[str, tuple[Shim, asyncio.Event]] = {}
        self._leftovers: dict[str, asyncio.Future[None]] = {}

    async def launch(
        self,
        driver: IsolationDriver,
        bundle: Bundle,
        config: ShimConfig,
        clients: Sequence[Client] = (),
        files: Mapping[str, bytes] | None = None,
    ) -> Task:
        """Prepare, spawn a shim, start.

        Args:
            driver: what isolates.
            bundle: spec, and the root's descriptor, which stays the caller's. Its directory is
                made, 0700.
            config: of the shim; the same directory.
            clients: whose sockets the shim takes over before the first byte is written. They are
                the shim's once this returns, and the caller's when it raises.
            files: what a daemon that comes later wants to find in the directory.

        Raises:
            LaunchError: the program failed; operation, object and errno are in it.
            BoxwoodError: whatever the driver or the shim said.
        """
        self._drop_leftover(bundle.id)
        _make_directory(bundle.directory)
        shim: Shim | None = None
        handle = TaskHandle(id=bundle.id, spec=bundle.spec)
        try:
            spawning = asyncio.ensure_future(Shim.spawn(config))
            # Its first step, which sends the configuration: the shim works on that beside us.
            await asyncio.sleep(0)
            try:
                launch = driver.prepare(bundle)
            except BaseException:
                shim = await spawning
                raise
            with launch:
                fault("start.prepared")
                try:
                    for name, data in {PROGRAM_FILE: launch.program, **(files or {})}.items():
                        _write(bundle.directory / name, data)
                finally:
                    shim = await spawning
                fault("start.spawned")
                started_at = time.time_ns()
                with self._noted(bundle.id, shim):
                    pid = await shim.start(launch.program, launch.fds, clients=clients)
        except BaseException:
            await self.unmake(driver, handle, shim, bundle.directory)
            raise
        return Task(shim, TaskHandle(id=bundle.id, pid=pid, spec=bundle.spec), started_at)

    @contextmanager
    def _noted(self, task: str, shim: Shim) -> Iterator[None]:
        over = asyncio.Event()
        self._launching[task] = shim, over
        try:
            yield
        finally:
            del self._launching[task]
            over.set()

    async def interrupt(self, task: str, grace: float) -> None:
        """End a launch that is not over in ``grace`` seconds: its bind mount's source may hang.

        Whoever launches gets a LaunchError that says in what. Nothing happens when none is under
        way.
        """
        shim, over = self._launching.get(task, (None, None))
        if shim is None or over is None:
            return
        try:
            async with asyncio.timeout(grace):
                await over.wait()
        except TimeoutError:
            await shim.interrupt()

    async def unmake(
        self, driver: IsolationDriver, handle: TaskHandle, shim: Shim | None, directory: Path
    ) -> None:
        """Remove a task that is dead or shall be. Idempotent; logs what it cannot do."""
        if shim is not None:
            await shim.close()
        try:
            await driver.delete(handle)
        except BoxwoodError as error:
            log.error("task %s: delete: %s", handle.id[:12], error)
            self._leftovers[handle.id] = asyncio.ensure_future(self._delete_later(driver, handle))
        remove_directory(directory)

    async def _delete_later(self, driver: IsolationDriver, handle: TaskHandle) -> None:
        """Try again what a process hinders that waits in a file system and cannot be killed."""
        for pause in LATER:
            await asyncio.sleep(pause)
            try:
                await driver.delete(handle)
            except BoxwoodError as error:
                log.debug("task %s: delete: %s", handle.id[:12], error)
                continue
            log.info("task %s: its control groups are gone after all", handle.id[:12])
            break
        self._leftovers.pop(handle.id, None)

    def _drop_leftover(self, task: str) -> None:
        """What is left of an earlier task is the new one's from now on."""
        left = self._leftovers.pop(task, None)
        if left is not None:
            left.cancel()


def remove_directory(directory: Path) -> None:
    """Remove a run directory: a few sockets and files of ours, nothing of a container's."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    # A shim that ends takes its socket away itself, maybe at this very moment.
                    Path(entry.path).unlink(missing_ok=True)
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("remove directory: %s: %s", directory, error)


def _write(path: Path, data: bytes) -> None:
    """Write a whole file; a third of the calls that Python's own file object makes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, data)
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(fd)


def _make_directory(directory: Path) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
