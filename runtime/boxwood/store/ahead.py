"""Layers that are unpacked before it is known what they stand on.

An archive of images names its layers at the end, and they come in any order. Where the driver can
unpack a layer without its parent (``parallel-apply``), each is unpacked while its bytes still
come, beside those before it; once the archive has said where it belongs it is put there
(:meth:`StorageDriver.rebase`). What turns out to be no layer, to be another one than it should or
to need its parent's tree is thrown away and unpacked from its file in the usual way: nothing that
goes wrong here is an error.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING, Self

from boxwood.drivers.storage import PARALLEL_APPLY
from boxwood.errors import BoxwoodError
from boxwood.model import growing

if TYPE_CHECKING:
    from boxwood.store.layers import LayerStore
    from boxwood.store.unpacking import Loose

log = logging.getLogger(__name__)

MOST = 256
"""Files that are begun in one load, each an open descriptor: of twice the layers of any image."""

AT_ONCE = 2
"""Layers that are unpacked side by side: each keeps a processor and a half busy."""


class Ahead:
    """``async with Ahead(layers) as ahead``: at the end what nobody took is thrown away.

    One file after the other comes: :meth:`begin`, :meth:`grew` any number of times, :meth:`whole`.
    """

    def __init__(self, layers: LayerStore) -> None:
        self._layers = layers
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._begun: list[Begun] = []
        # A file is known by its inode: the archive may give its name to another one. All of them
        # stay open, so that no number comes again.
        self._free: dict[tuple[int, int], Begun] = {}
        self._coming: Begun | None = None

    @staticmethod
    def possible(layers: LayerStore) -> bool:
        """Can the storage driver do it?"""
        return PARALLEL_APPLY in layers.driver.capabilities

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Throw away what nobody took, and let go of all files. Idempotent."""
        self.whole()
        for begun in self._free.values():
            begun.stop()
        self._free.clear()
        if self._begun:
            await asyncio.wait([begun.work for begun in self._begun])
        for begun in self._begun:
            os.close(begun.fd)
        self._begun.clear()

    def begin(self, fd: int) -> None:
        """Unpack what is being written to a file, from its start; the descriptor is taken over.

        Raises:
            OSError: too many files.
        """
        self.whole()
        if len(self._begun) >= MOST:
            raise OSError(errno.EMFILE, "layers begun ahead")
        self._coming = begun = Begun(self._layers, self._slots, fd)
        self._begun.append(begun)
        # Whoever tells may be late: a file that was gone before it was opened, and whose number the
        # next one got, has been begun with that one's bytes.
        if (before := self._free.pop(_identity(fd), None)) is not None:
            before.stop()
        self._free[_identity(fd)] = begun
        begun.wake()

    def grew(self) -> None:
        """The file has become longer."""
        if self._coming is not None:
            self._coming.wake()

    def whole(self) -> None:
        """The file has all that will be in it. Idempotent."""
        if self._coming is not None:
            self._coming.whole()
            self._coming = None

    def take(self, fd: int) -> Begun | None:
        """Hand over what is made of this file, once; None: nothing."""
        return self._free.pop(_identity(fd), None)


class Begun:
    """A layer that is being unpacked, or has been.

    Digests that are known are given: another one's bytes make none of this. The descriptor stays
    the caller's, open until ``work`` is done.
    """

    def __init__(
        self,
        layers: LayerStore,
        slots: asyncio.Semaphore,
        fd: int,
        *,
        diff_id: str = "",
        digest: str = "",
    ) -> None:
        self._layers = layers
        self._slots = slots
        self._diff_id, self._digest = diff_id, digest
        self.fd = fd
        self._growing, self._more = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._growing, True)  # the worker waits here
        self.work = asyncio.ensure_future(self._unpack())
        # By callback: a task that is cancelled before its first step would never do it.
        self.work.add_done_callback(self._close)

    def wake(self, size: int = -1) -> None:
        """Say that the file has become longer, or that the first ``size`` bytes of it are there.

        A pipe that is full says enough to go on with: what comes next says the rest.
        """
        if self._more >= 0:
            growing.tell(self._more, os.fstat(self.fd).st_size if size < 0 else size)

    def whole(self) -> None:
        """Say that it will not become any longer. Idempotent."""
        if self._more >= 0:
            os.close(self._more)
            self._more = -1

    def stop(self) -> None:
        """Nobody wants it: stop, or throw away what was made."""
        self.whole()
        self.work.cancel()
        self.work.add_done_callback(self._discard)

    async def made(self) -> Loose | None:
        """Wait for it; None: it could not be unpacked so."""
        try:
            return await asyncio.shield(self.work)
        except asyncio.CancelledError:
            self.stop()
            raise

    async def _unpack(self) -> Loose | None:
        async with self._slots:
            try:
                return await self._layers.unpacker.unpack_loose(
                    self.fd, self._growing, diff_id=self._diff_id, digest=self._digest
                )
            except BoxwoodError as error:
                log.debug("unpack ahead: %s", error)
                return None

    def _close(self, _: object) -> None:
        os.close(self._growing)

    def _discard(self, work: asyncio.Future[Loose | None]) -> None:
        if not work.cancelled() and work.exception() is None and (made := work.result()):
            self._layers.unpacker.discard_loose(made)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
