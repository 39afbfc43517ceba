"""Snapshots that nobody wants any more: out of sight at once, off the disk later."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from boxwood.drivers.storage import open_directory
from boxwood.errors import BoxwoodError

if TYPE_CHECKING:
    from boxwood.drivers.storage import Offload, StorageDriver
    from boxwood.store.content import ContentStore

log = logging.getLogger(__name__)

CLEAN_DELAY = 0.2
"""Seconds in which removals come together before a worker deletes them."""


class Trash:
    """One instance, the layer store's; in the event loop's thread."""

    def __init__(self, driver: StorageDriver, content: ContentStore, offload: Offload) -> None:
        self._driver = driver
        self._content = content
        self._offload = offload
        self._cleaning: asyncio.Task[None] | None = None
        self._more_to_clean = False

    def discard(self, key: str) -> None:
        """Throw a snapshot away that was begun; what is wrong with that is logged."""
        try:
            self._driver.remove(key)
        except BoxwoodError as error:
            log.warning("discard the snapshot %s: %s", key, error)
        self.clean_later()

    def clean_later(self) -> None:
        """Have the trash emptied in the background; returns at once."""
        self._more_to_clean = True
        if self._cleaning is None or self._cleaning.done():
            self._cleaning = asyncio.get_running_loop().create_task(self._clean())

    async def _clean(self) -> None:
        while self._more_to_clean:
            # A burst of removals is one job of one worker, and off the way of the next start.
            await asyncio.sleep(CLEAN_DELAY)
            self._more_to_clean = False
            try:
                await self._driver.cleanup()
                with open_directory(self._content.root / "ingest") as fd:
                    for name in self._content.leftovers(all_of_them=False):
                        await self._offload("remove_tree", {"name": name}, [fd])
            except (BoxwoodError, OSError) as error:
                log.warning("empty the trash: %s", error)
                return

    async def idle(self) -> None:
        """Wait until nothing is being cleaned."""
        if self._cleaning is not None:
            await asyncio.wait([self._cleaning])

    async def close(self) -> None:
        """Stop; the next start goes on with it."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])
