"""A layer that is unpacked while its bytes still come, before what it stands on is there.

Only where the storage driver can (``parallel-apply``); what goes wrong here is no error, see
:mod:`boxwood.store.ahead`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boxwood.store.ahead import Begun

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from boxwood.store.layers import LayerStore


class Arriving:
    """What a download tells goes on to a worker, which reads the same file; begun with the first
    bytes. No method raises."""

    def __init__(
        self, layers: LayerStore, slots: asyncio.Semaphore, path: Path, diff_id: str, digest: str
    ) -> None:
        self._layers, self._slots, self._path = layers, slots, path
        self._diff_id, self._digest = diff_id, digest
        self._begun: Begun | None = None
        self._over = False

    def grew(self, size: int) -> None:
        """The first ``size`` bytes are there."""
        if self._begun is None and size and not self._over:
            self._begun = self._begin()
        if self._begun is not None:
            self._begun.wake(size)

    def _begin(self) -> Begun | None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # descriptors ran out: later will do
            self._over = True
            return None
        try:
            begun = Begun(self._layers, self._slots, fd, diff_id=self._diff_id, digest=self._digest)
        except OSError:
            self._over = True
            os.close(fd)
            return None
        begun.work.add_done_callback(lambda _: os.close(fd))
        return begun

    def whole(self) -> None:
        """All bytes are there."""
        if self._begun is not None:
            self._begun.whole()

    def stop(self) -> None:
        """Nobody wants it any more, or not all of it came."""
        self._over = True
        if (begun := self.take()) is not None:
            begun.stop()

    def take(self) -> Begun | None:
        """Hand over what has been begun, once all bytes are there; None: nothing."""
        self.whole()
        begun, self._begun = self._begun, None
        self._over = True
        return begun
