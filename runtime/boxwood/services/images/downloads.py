"""Blobs on their way here: one download for all who wait for it, resumed after faults.

On disk, until a layer is made of it::

    <content>/partial/<algorithm>-<hex>

What is there of it survives the daemon: the next one asks for the rest. Nothing vouches for these
bytes: who reads them verifies the digest, and sets :attr:`Download.spent` when it is wrong.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    TooLarge,
    Unavailable,
)
from boxwood.faultpoints import PATIENCE
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from boxwood.model.descriptor import Descriptor

Fetch = Callable[[int], AsyncIterator[bytes]]
"""Opens the content at an offset in bytes."""

PIECE = 1 << 20
BACKOFF = 0.5 * PATIENCE
"""Seconds before the second attempt; twice as many before each further one."""


class Download:
    """One blob. ``received`` grows to ``size``; whoever has joined may follow it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.received = 0
        self.users = 0
        self.spent = False
        """What is here is a layer by now, or is wrong: it goes with the last who leaves."""
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def begin(self, fetch: Fetch, attempts: int, slot: asyncio.Semaphore) -> None:
        """Start; raises ResourceExhausted."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("download", self.path.name, error) from error
        have = os.fstat(fd).st_size
        if have > self.size:
            os.ftruncate(fd, 0)
            have = 0
        self.received = have
        self._work = asyncio.ensure_future(self._run(fd, fetch, attempts, slot))
        self._work.add_done_callback(lambda _: self._ended(fd))

    def _ended(self, fd: int) -> None:
        os.close(fd)
        self._changed.set()

    async def _run(self, fd: int, fetch: Fetch, attempts: int, slot: asyncio.Semaphore) -> None:
        async with slot:
            for attempt in range(attempts):
                before = self.received
                try:
                    await self._receive(fd, fetch)
                except (Unavailable, DeadlineExceeded, DataLoss):
                    # What brought something on may be tried on, as long as there are attempts.
                    if attempt == attempts - 1:
                        raise
                    await asyncio.sleep(0 if self.received > before else BACKOFF * 2**attempt)
                    continue
                if self.received == self.size:
                    return
            raise DataLoss(
                f"download: {self.path.name}: ended after {self.received} of {self.size} bytes"
            )

    async def _receive(self, fd: int, fetch: Fetch) -> None:
        if self.received == self.size:
            return
        async with aclosing(fetch(self.received)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                view = memoryview(piece)
                while view:
                    try:
                        count = os.pwrite(fd, view, self.received)
                    except OSError as error:
                        raise as_boxwood_error("download", self.path.name, error) from error
                    self.received += count
                    view = view[count:]
                self._changed.set()

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they come, from the first on; raises what the download raises."""
        position = 0
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while position < self.size:
                if position == self.received:
                    await self.progress()
                    continue
                piece = os.pread(fd, min(PIECE, self.received - position), position)
                if not piece:
                    raise DataLoss(f"download: {self.path.name}: was cut short on disk")
                position += len(piece)
                yield piece
        finally:
            os.close(fd)

    async def progress(self) -> None:
        """Wait until more has come; raises what the download raises."""
        work = self._work
        if work is None or work.done():
            if work is not None:
                work.result()
            return
        self._changed.clear()
        await self._changed.wait()
        if work.done():
            work.result()

    @property
    def done(self) -> bool:
        """Is all of it here?"""
        return self.received == self.size

    async def stop(self) -> None:
        """End it; what is here stays."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
            if not self._work.cancelled():
                self._work.exception()  # whoever waited for it has had it
        if self.spent:
            self.path.unlink(missing_ok=True)

    def link(self, path: Path) -> Path:
        """Give the file a further name, for one who takes it over; raises ResourceExhausted."""
        try:
            os.link(self.path, path)
        except OSError as error:
            raise as_boxwood_error("download", self.path.name, error) from error
        return path


class Downloads:
    """All downloads of the engine."""

    def __init__(self, root: Path, parallel: int, attempts: int) -> None:
        """``root`` is the content store's."""
        self._directory = root / "partial"
        self._attempts = attempts
        self._slots = asyncio.Semaphore(parallel)
        self._active: dict[str, Download] = {}
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise as_boxwood_error("make directory", self._directory, error) from error

    def path(self, digest: Digest) -> Path:
        """Return where the bytes of a blob are gathered."""
        return self._directory / f"{digest.algorithm}-{digest.hex}"

    @asynccontextmanager
    async def joined(self, descriptor: Descriptor, fetch: Fetch) -> AsyncIterator[Download]:
        """``async with downloads.joined(descriptor, fetch) as download``: take part in one.

        The last who leaves ends it.
        """
        digest = Digest.parse(descriptor.digest)
        download = self._active.get(digest)
        if download is None or download.size != descriptor.size:
            download = Download(self.path(digest), descriptor.size)
            download.begin(fetch, self._attempts, self._slots)
            self._active[digest] = download
        download.users += 1
        try:
            yield download
        finally:
            download.users -= 1
            if not download.users:
                if self._active.get(digest) is download:
                    del self._active[digest]
                await download.stop()

    def sweep(self) -> list[str]:
        """Remove what nobody has asked for in a week; returns what was removed."""
        done = []
        for path in self._directory.iterdir():
            if path.stat().st_mtime < time.time() - 7 * 86400:
                path.unlink()
                done.append(f"removed the unfinished download {path.name}")
        return done


def is_wrong(error: BoxwoodError) -> bool:
    """Whether an error of unpacking says that the bytes are not what they should be."""
    return isinstance(error, InvalidArgument | TooLarge)
