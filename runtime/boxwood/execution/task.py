"""The task: a process tree in a sandbox on a root, watched by a shim.

What containers and build steps are both made of. Nothing here knows a record, an image or a
client's request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxwood.drivers.isolation import TaskHandle
from boxwood.errors import BoxwoodError
from boxwood.execution.shim import Shim
from boxwood.faultpoints import fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boxwood.drivers.isolation import Bundle, IsolationDriver
    from boxwood.execution.shim import Client, ShimConfig

log = logging.getLogger(__name__)

PROGRAM_FILE = "program"
SPEC_FILE = "spec.json"


@dataclass(slots=True)
class Task:
    """A task that runs: its shim, and what the isolation driver knows it by."""

    shim: Shim
    handle: TaskHandle


class Launcher:
    """Starts tasks; what it made for one that does not start, it unmakes."""

    async def launch(
        self,
        driver: IsolationDriver,
        bundle: Bundle,
        config: ShimConfig,
        clients: Sequence[Client] = (),
    ) -> Task:
        """Prepare, spawn a shim, start.

        Args:
            driver: what isolates.
            bundle: spec, and the root's descriptor, which stays the caller's. Its directory is
                made, 0700.
            config: of the shim; the same directory.
            clients: whose sockets the shim takes over before the first byte is written. They are
                the shim's once this returns, and the caller's when it raises.

        Raises:
            LaunchError: the program failed; operation, object and errno are in it.
            BoxwoodError: whatever the driver or the shim said.
        """
        _make_directory(bundle.directory)
        shim: Shim | None = None
        handle = TaskHandle(id=bundle.id, spec=bundle.spec)
        try:
            spawning = asyncio.ensure_future(Shim.spawn(config))
            try:
                launch = driver.prepare(bundle)
            except BaseException:
                shim = await spawning
                raise
            with launch:
                fault("start.prepared")
                shim = await spawning
                fault("start.spawned")
                (bundle.directory / PROGRAM_FILE).write_bytes(launch.program)
                pid = await shim.start(launch.program, launch.fds, clients=clients)
        except BaseException:
            await self.unmake(driver, handle, shim, bundle.directory)
            raise
        # The next one finds its shim running already.
        asyncio.get_running_loop().call_soon(Shim.prewarm)
        return Task(shim, TaskHandle(id=bundle.id, pid=pid, spec=bundle.spec))

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
        remove_directory(directory)


def remove_directory(directory: Path) -> None:
    """Remove a run directory: a few sockets and files of ours, nothing of a container's."""
    try:
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("remove directory: %s: %s", directory, error)


def _make_directory(directory: Path) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
