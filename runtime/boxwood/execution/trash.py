"""A place for directories that are to be deleted: out of sight at once, off the disk later.

Deleting is what costs: on a busy journal every unlink may take milliseconds. So a directory is
renamed here, and after a moment a worker deletes all that has come together.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from boxwood.drivers.storage import gather
from boxwood.errors import BoxwoodError

if TYPE_CHECKING:
    from boxwood.execution.worker import WorkerPool

log = logging.getLogger(__name__)

DELAY = 0.5
"""Seconds in which removals come together: one worker then does them all."""


class Trash:
    """One directory, on the file system of what is thrown into it."""

    def __init__(self, root: Path, workers: WorkerPool) -> None:
        """``root`` is made; what an earlier daemon left in it is deleted soon after a start."""
        self._root = str(root)
        self._workers = workers
        self._task: asyncio.Task[None] | None = None
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def discard(self, path: str | os.PathLike[str]) -> None:
        """Take a directory or file away from its place. Nothing happens if it is not there."""
        goal = f"{self._root}/{os.path.basename(path)}-{secrets.token_hex(4)}"
        try:
            os.rename(path, goal)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("discard: %s: %s; the next start tries again", path, error)
            return
        self.empty()

    def empty(self) -> None:
        """Have everything in it deleted soon. Idempotent."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._empty())

    async def _empty(self) -> None:
        while names := os.listdir(self._root):
            await asyncio.sleep(DELAY)
            # What came meanwhile goes along, in one directory.
            try:
                await self._delete([*{*names, *os.listdir(self._root)}])
            except (BoxwoodError, OSError) as error:
                log.error("empty the trash: %s: %s; the next start goes on", self._root, error)
                return

    async def _delete(self, names: list[str]) -> None:
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in gather(fd, names):
                await self._workers.offload("remove_tree", {"name": name}, [fd])
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Stop; what is left is the next daemon's."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
