"""Blobs on their way here: one download for all who wait for it, resumed after faults.

On disk, until a layer is made of it::

    <content>/partial/<algorithm>-<hex>

and what :mod:`boxwood.services.images.spans` puts beside it. What is there of it survives the
daemon: the next one asks for the rest. Nothing vouches for these bytes: who reads them verifies the
digest, of which there is no saved state, since all of them are unpacked again anyway. Bytes from
more than one answer that turn out wrong (the faulty ones may be of long ago) are fetched afresh,
once: :meth:`Download.renew`; so are those of one answer, if somebody else who waits has another
way to it. Which bytes are the wrong ones cannot be known: there is one digest, of all of them.

A blob comes over one connection. Where that would take long, and the peer gives parts of it, more
are added one by one. Each is on trial with a part of the blob's end; as long as it makes all of it
faster it goes on with halves of what others have left, else it was the last one. On a line that is
full, the blob still comes from its start on, in the order in which it is unpacked.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    TooLarge,
    Unavailable,
    Unsupported,
)
from boxwood.faultpoints import PATIENCE
from boxwood.model.digest import Digest
from boxwood.services.images.spans import SUFFIX, Span, Spans
from boxwood.services.images.ways import Fetch, FetchPart, Way, Ways

if TYPE_CHECKING:
    from pathlib import Path

    from boxwood.drivers.storage import Offload
    from boxwood.model.descriptor import Descriptor
    from boxwood.services.images.arriving import Arriving

PIECE = 1 << 20
BACKOFF = 0.5 * PATIENCE
"""Seconds before the second attempt; twice as many before each further one."""
KEPT = 7 * 86400
"""Seconds after which what came of a blob is not waited for any more."""
LOOK = 0.5
"""Seconds between two looks at whether one more connection would pay."""
SOON = 1.0
"""Seconds: what will be done in less needs no further connection."""
LEAST_PART = 4 << 20
"""Bytes: a smaller part is not worth a connection and its slow start."""
TRIAL = 1.0
"""Seconds' worth of bytes that a further connection is on trial with."""
GAIN = 1.1
"""How much faster it must have become with one more connection for there to be yet another."""


class _Helper:
    """A further connection."""

    def __init__(self) -> None:
        self.good = False
        """Has it made the download faster? Else it ends with its first part."""
        self.span: Span | None = None
        """Its first part."""
        self.task: asyncio.Task[None] | None = None

    @property
    def flows(self) -> bool:
        """Has it brought anything? Handshakes take a while."""
        ended = self.task is None or self.task.done()
        return ended or (self.span is not None and self.span.at > self.span.start)


class Download:
    """One blob. ``received`` grows to ``size``; whoever has joined may follow it."""

    def __init__(self, path: Path, size: int, way: Way, slot: asyncio.Semaphore) -> None:
        self.path, self.size = path, size
        self.ways, self._slot = Ways(way), slot
        self.renewals = 0
        """How often all of it was thrown away."""
        self.resumed = False
        """Are the bytes from more than one answer?"""
        self.users = 0
        self.spent = False
        """What is here is a layer by now: it goes with the last who leaves."""
        self.wrong = False
        """What is here is wrong, whoever was asked: it goes likewise, and nobody joins."""
        self.ahead: dict[str, Arriving] = {}
        """Who unpacks it while it comes, by chain ID; the last who leaves stops those."""
        self._spans = Spans(path, size)
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None
        """Of ``_work``, what uses the way that is in use."""
        self._helpers: set[asyncio.Task[None]] = set()
        self._alone = False
        """Has a further connection failed?"""

    @property
    def received(self) -> int:
        """Bytes that are there from the first on, and may be read."""
        return self._spans.prefix

    @property
    def there(self) -> int:
        """Bytes that are there, wherever."""
        return self._spans.there

    def begin(self) -> None:
        """Start; raises ResourceExhausted."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("download", self.path.name, error) from error
        have = os.fstat(fd).st_size
        if have > self.size or not self._spans.restore(have):
            os.ftruncate(fd, 0)
            self._spans.forget_map()
        self.resumed = self.there > 0
        self._work = asyncio.ensure_future(self._run(fd))
        self._work.add_done_callback(lambda _: self._ended(fd))

    def _ended(self, fd: int) -> None:
        os.close(fd)
        with suppress(BoxwoodError):  # a full disk: the map says less, and nothing wrong
            self._spans.save()
        for arriving in self.ahead.values():
            self._tell_end(arriving)
        self._changed.set()

    def join_ahead(self, chain: str, arriving: Arriving) -> None:
        """Tell ``arriving`` what becomes of it, from now on."""
        self.ahead[chain] = arriving
        if self.received:
            arriving.grew(self.received)
        if self._work is not None and self._work.done():
            self._tell_end(arriving)

    def _tell_end(self, arriving: Arriving) -> None:
        if self.done:
            arriving.whole()
        else:
            arriving.stop()

    async def _run(self, fd: int) -> None:
        async with self._slot:
            widening = asyncio.ensure_future(self._widen(fd))
            try:
                await self._try(fd)
            finally:
                for task in (tasks := {widening, *self._helpers}):
                    task.cancel()
                await asyncio.wait(tasks)

    async def _try(self, fd: int) -> None:
        while True:
            trying = self._trying = asyncio.ensure_future(self._try_way(fd))
            try:
                await asyncio.wait([trying])
            finally:
                trying.cancel()
                await asyncio.wait([trying])
            try:
                return trying.result()
            except ResourceExhausted:
                raise  # our own disk
            except asyncio.CancelledError:
                if not self.ways.failed():  # whose way it was has left, and nobody else is there
                    raise
            except BoxwoodError:
                if not self.ways.failed():
                    raise
            self._alone = False

    async def _try_way(self, fd: int) -> None:
        attempts = self.ways.now.attempts
        for attempt in range(attempts):
            before = self.there
            self.resumed = self.resumed or before > 0
            try:
                await self._receive(fd)
            except (Unavailable, DeadlineExceeded, DataLoss):
                # What brought something on may be tried on, as long as there are attempts.
                if attempt == attempts - 1:
                    raise
                await asyncio.sleep(0 if self.there > before else BACKOFF * 2**attempt)
                continue
            if self.done:
                return
        raise DataLoss(
            f"download: {self.path.name}: ended after {self.received} of {self.size} bytes"
        )

    async def _receive(self, fd: int) -> None:
        """Fetch one part after the other; ends early where the peer does."""
        while not self.done:
            span = self._spans.take()
            if span is None:
                span = self._half()
            if span is None:
                if not self._helpers:
                    return
                await asyncio.wait(self._helpers, return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                await self._fetch(fd, span)
                if span.left:
                    return
            finally:
                self._spans.give_back(span)

    async def _fetch(self, fd: int, span: Span) -> None:
        span.open = False
        if span.end < self.size and self.ways.now.part is not None and not self._alone:
            try:
                await self._fill(fd, span, self.ways.now.part(span.at, span.end))
                return
            except Unsupported:
                self._alone = True
        span.open = True
        await self._fill(fd, span, self.ways.now.fetch(span.at))

    async def _fill(self, fd: int, span: Span, stream: AsyncIterator[bytes]) -> None:
        """Write what comes until the part is whole: it may be made smaller meanwhile."""
        if not span.left:
            return
        async with aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                view = memoryview(piece)[: span.left]
                while view:
                    try:
                        count = os.pwrite(fd, view, span.at)
                    except OSError as error:
                        raise as_boxwood_error("download", self.path.name, error) from error
                    self._spans.grew(span, count)
                    view = view[count:]
                for arriving in self.ahead.values():
                    arriving.grew(self.received)
                self._changed.set()
                if not span.left:
                    return

    # Further connections

    async def _widen(self, fd: int) -> None:
        """Add connections as long as each brings more; see the module."""
        last = 0.0
        newest: _Helper | None = None
        while self.ways.now.part is not None and not self._alone:
            before, flows = self.there, newest is None or newest.flows
            await asyncio.sleep(LOOK)
            rate = (self.there - before) / LOOK
            if not flows or not rate or (self.size - self.there) / rate < SOON:
                continue
            if newest is not None and not newest.good:
                if rate < last * GAIN:
                    return
                newest.good = True
                if newest.task is None or newest.task.done():
                    newest = self._add(fd, newest, self._half())
            if len(self._helpers) + 1 < self.ways.now.connections:
                most = max(LEAST_PART, int(rate * TRIAL))
                if (span := self._half(most)) is not None:
                    last = rate
                    newest = self._add(fd, _Helper(), span)

    def _add(self, fd: int, helper: _Helper, span: Span | None) -> _Helper:
        """Have a further connection fetch a part, if there is one."""
        if span is not None:
            self.resumed = True
            helper.span = span
            helper.task = asyncio.ensure_future(self._help(fd, helper))
            self._helpers.add(helper.task)
            helper.task.add_done_callback(self._helpers.discard)
        return helper

    async def _help(self, fd: int, helper: _Helper) -> None:
        """Fetch a part, and then parts of parts. What goes wrong is left to the first connection,
        which has the attempts, and there is no further one any more."""
        span, part = helper.span, self.ways.now.part
        while span is not None and part is not None:
            try:
                await self._fill(fd, span, part(span.at, span.end))
                self._alone = self._alone or span.left > 0
            except BoxwoodError:
                self._alone = True
            finally:
                self._spans.give_back(span)
            span = self._half() if helper.good else None

    def _half(self, most: int = 0) -> Span | None:
        """Take half of what another connection has left, if that is worth it and can be.

        ``most``: bytes, if fewer will do; 0: all of the half.
        """
        if self._alone or self.ways.now.part is None:
            return None
        try:
            return self._spans.split(LEAST_PART, most)
        except BoxwoodError:
            return None  # the disk is full: whoever writes next says so

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they come, from the first on.

        Raises:
            DataLoss: all of it is being fetched afresh; and what the download raises.
        """
        position, renewals = 0, self.renewals
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while position < self.size:
                if renewals != self.renewals:
                    raise DataLoss(f"download: {self.path.name}: had wrong bytes")
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
        if work.done() and work is self._work:
            work.result()

    async def arrived(self) -> None:
        """Wait until all of it is here; raises what :meth:`follow` raises."""
        renewals = self.renewals
        while not self.done:
            if renewals != self.renewals:
                raise DataLoss(f"download: {self.path.name}: had wrong bytes")
            await self.progress()

    @property
    def done(self) -> bool:
        """Is all of it here?"""
        return self.received == self.size

    @property
    def renewable(self) -> bool:
        """May wrong bytes be other ones when all of it is fetched afresh?"""
        return self.resumed or self.ways.others

    async def renew(self, renewals: int) -> None:
        """Throw away what is here, which is wrong, and begin afresh, in a new file.

        By another way, if there is one. ``renewals`` as it was when the caller began to read: only
        the first who finds out does it.
        """
        if renewals == self.renewals:
            self.renewals += 1
            await self._end()
            forget(self.path)
            self.ways.turn()
            self.wrong = self._alone = False
            self._spans = Spans(self.path, self.size)
            self.begin()

    async def leave(self, way: Way) -> None:
        """Whoever brought a way has left: nothing of it is in use when this returns, unless nobody
        has another one."""
        self.ways.remove(way)
        if self.ways.now is not way or not self.ways.others:
            return
        if self._trying is None:  # it waits for a slot
            self.ways.failed()
            return
        for task in (using := {self._trying, *self._helpers}):
            task.cancel()  # the next way is taken then
        await asyncio.wait(using)

    def revive(self, way: Way) -> None:
        """Take one more way; begin again where all others have failed.

        Raises:
            ResourceExhausted
        """
        self.ways.add(way)
        if self._work is None or not self._work.done() or self.done:
            return
        self.ways.failed()
        self._alone = False
        self._spans = Spans(self.path, self.size)
        try:
            self.begin()
        except BoxwoodError:
            self.ways.remove(way)
            raise

    async def is_right(self, digest: str, offload: Offload) -> bool:
        """Whether all of it is here and has the digest: then another try brings the same bytes."""
        if not self.done:
            return False
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            asked = {"algorithm": Digest.parse(digest).algorithm}
            return bool((await offload("hash_file", asked, [fd]))["digest"] == digest)
        finally:
            os.close(fd)

    async def stop(self) -> None:
        """End it; what is here stays."""
        await self._end()
        if self.spent or self.wrong:
            forget(self.path)

    async def _end(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # whoever waited for it has had it
        for arriving in self.ahead.values():
            arriving.stop()
        self.ahead.clear()

    def link(self, path: Path) -> Path:
        """Give the file a further name, for one who takes it over; raises ResourceExhausted."""
        try:
            os.link(self.path, path)
        except OSError as error:
            raise as_boxwood_error("download", self.path.name, error) from error
        return path


class Downloads:
    """All downloads of the engine."""

    def __init__(self, root: Path, parallel: int, attempts: int, connections: int = 1) -> None:
        """``root`` is the content store's.

        Args:
            parallel: blobs that are fetched side by side.
            attempts: at one blob.
            connections: over which one blob is fetched, at most.
        """
        self._directory = root / "partial"
        self._attempts, self._connections = attempts, connections
        self.unpacking = asyncio.Semaphore(parallel)
        """Slots of those who unpack while it comes: as many as may come."""
        self._slots = asyncio.Semaphore(parallel)
        self._active: dict[tuple[str, int], Download] = {}
        """By digest and size: who lies about one must not spoil what others fetch."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise as_boxwood_error("make directory", self._directory, error) from error

    def path(self, digest: Digest) -> Path:
        """Return where the bytes of a blob are gathered."""
        return self._directory / f"{digest.algorithm}-{digest.hex}"

    @asynccontextmanager
    async def joined(
        self, descriptor: Descriptor, fetch: Fetch, part: FetchPart | None = None
    ) -> AsyncIterator[Download]:
        """``async with downloads.joined(descriptor, fetch) as download``: take part in one.

        The last who leaves ends it. Without ``part`` it comes over one connection.
        """
        way = Way(fetch, part, self._attempts, self._connections)
        download = self._begun(descriptor, way)
        key = (descriptor.digest, descriptor.size)
        download.users += 1
        try:
            yield download
        finally:
            download.users -= 1
            if download.users:
                await download.leave(way)
            else:
                if self._active.get(key) is download:
                    del self._active[key]
                await download.stop()

    def _begun(self, descriptor: Descriptor, way: Way) -> Download:
        """Return the download of a blob, which has this way, too."""
        digest = Digest.parse(descriptor.digest)
        key = (descriptor.digest, descriptor.size)
        if (download := self._active.get(key)) is not None and not download.wrong:
            download.revive(way)
            return download
        path, busy = self.path(digest), {one.path for one in self._active.values()}
        aside = download is not None or path in busy
        if aside:
            # One of them has a size that is wrong, or bytes that are: it is kept apart.
            path = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        download = Download(path, descriptor.size, way, self._slots)
        download.spent = aside
        download.begin()
        self._active[key] = download
        return download

    def forget(self, descriptor: Descriptor) -> None:
        """Remove what is here of a blob, which is a layer by now; in use, with its last user."""
        key = (descriptor.digest, descriptor.size)
        if (download := self._active.get(key)) is not None:
            download.spent = True
        else:
            forget(self.path(Digest.parse(descriptor.digest)))

    def sweep(self, layers: set[str]) -> list[str]:
        """Remove what nobody has asked for in a week, what is a layer by now, what is of no use.

        ``layers`` are the digests of those, as they came. Returns what was removed.
        """
        done = []
        for path in list(self._directory.iterdir()):
            if path.suffix == SUFFIX:
                if not path.with_suffix("").exists():
                    path.unlink()
                continue
            kept_apart = "." in path.name  # by a daemon that was killed
            old = path.stat().st_mtime < time.time() - KEPT
            if old or kept_apart or path.name.replace("-", ":", 1) in layers:
                forget(path)
                done.append(f"removed the unfinished download {path.name}")
        return done


def forget(path: Path) -> None:
    """Remove what is here of a blob, and the map of it."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + SUFFIX).unlink(missing_ok=True)


def is_wrong(error: BoxwoodError) -> bool:
    """Whether an error of unpacking says that the bytes are not what they should be."""
    return isinstance(error, InvalidArgument | TooLarge)
