"""One image, or an index with all of its images, from one place to another.

Manifests go as they are, byte for byte: the digest stays, and what a place cannot hold unchanged is
an error. Content is verified as it passes. A source that breaks off is asked for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from boxwood.drivers.documents import best, decode_manifest, fetch_document
from boxwood.drivers.registry import Session
from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument, NotFound, Unavailable
from boxwood.model.descriptor import INDEXES, MANIFESTS, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from boxwood.copying.ends import End
    from boxwood.model.descriptor import Manifest

PARALLEL = 6
"""Blobs on their way at once."""
ATTEMPTS = 5
"""How often in a row a source may break off without having sent a byte."""
PAUSE = 0.5
"""Seconds before the second of them; twice as many before each further one."""
DEPTH = 3
"""Indexes within indexes."""
SHORT = 12
AT_ONCE = 1 << 20
"""Bytes that a thread is given: a switch costs some 50 us, SHA-256 of these 700."""

Say = Callable[[str], object]


class Copy:
    """One copy. :meth:`run` does it."""

    def __init__(
        self, source: End, target: End, *, whole: bool, platform: Platform | None, say: Say
    ) -> None:
        """``whole``: an index with all it lists; else the image of one platform."""
        self._source, self._target = source, target
        self._whole, self._platform, self._say = whole, platform, say
        self._slots = asyncio.Semaphore(PARALLEL)
        self._sent: dict[str, asyncio.Future[None]] = {}

    async def run(self) -> Descriptor:
        """Copy; returns what the image is at its new place.

        Raises:
            NotFound, Unauthenticated, PermissionDenied, Unavailable, InvalidArgument, DataLoss,
            Unsupported: what the transports say.
        """
        source, target = self._source, self._target
        reading = Session(platform=self._platform, manifest_wanted=True, say=self._say)
        async with source.transport.session(source.name, reading):
            top = await source.transport.resolve(source.name, source.credentials)
            local = await source.transport.local_name(source.name, top)
            writing = Session(writing=True, called=local, say=self._say)
            async with target.transport.session(target.name, writing):
                return await self._image(top, target, DEPTH)

    async def _image(self, found: Descriptor, target: End, depth: int) -> Descriptor:
        """Copy a manifest or an index and what is below it; returns what was written."""
        source = self._source
        data = await fetch_document(source.transport, source.name, found, source.credentials)
        manifest = decode_manifest(data, found)
        if found.media_type in INDEXES and not self._whole:
            return await self._image(self._chosen(manifest, found), target, depth - 1)
        if not depth:
            raise InvalidArgument(f"copy {source}: indexes within indexes")
        if found.media_type in INDEXES:
            for entry in manifest.manifests or ():
                await self._entry(entry, target, depth)
        else:
            await self._blobs(manifest, target)
        wanted = target.name.digest if isinstance(target.name, Reference) else None
        if wanted is not None and wanted != found.digest:
            raise InvalidArgument(f"copy {source}: is {found.digest}, was to become {target}")
        plain = Descriptor(media_type=found.media_type, digest=found.digest, size=found.size)
        await target.transport.push(target.name, plain, of(data), target.credentials)
        self._say(f"{_short(found.digest)}: Manifest written")
        return plain

    async def _entry(self, entry: Descriptor, target: End, depth: int) -> None:
        pinned = target.at(target.transport.pinned(target.name, Digest.parse(entry.digest)))
        if entry.media_type in INDEXES | MANIFESTS:
            await self._image(entry, pinned, depth - 1)
        else:
            await self._blob(entry, target)

    def _chosen(self, index: Manifest, found: Descriptor) -> Descriptor:
        return _of_platform(self._source, index, found, self._platform or Platform.host())

    # Blobs

    async def _blobs(self, manifest: Manifest, target: End) -> None:
        wanted = [*(manifest.layers or ()), *((manifest.config,) if manifest.config else ())]
        tasks = [asyncio.ensure_future(self._blob(one, target)) for one in wanted]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _blob(self, one: Descriptor, target: End) -> None:
        """Copy a blob, once in the whole copy."""
        if one.media_type in INDEXES | MANIFESTS:
            raise InvalidArgument(f"copy {self._source}: {one.digest}: a manifest as a layer")
        if one.size < 0:
            raise InvalidArgument(f"copy {self._source}: {one.digest}: {one.size} bytes")
        digest = Digest.parse(one.digest)
        if (before := self._sent.get(digest)) is not None:
            await asyncio.shield(before)
            return
        done = self._sent[digest] = asyncio.get_running_loop().create_future()
        try:
            if await target.transport.has(target.name, one, target.credentials):
                self._say(f"{_short(one.digest)}: Already exists")
            else:
                async with self._slots:
                    await self._send(one, target)
        except BaseException as error:
            done.set_exception(error) if isinstance(error, Exception) else done.cancel()
            if not done.cancelled():
                done.exception()  # who waited for it has it; if nobody did, it is ours
            raise
        done.set_result(None)

    async def _send(self, one: Descriptor, target: End) -> None:
        asked = False
        wrong: list[BoxwoodError] = []

        async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
            nonlocal asked
            asked = True
            try:
                async with aclosing(checked(self._source, one, offset)) as stream:
                    async for piece in stream:
                        yield piece
            except BoxwoodError as error:
                wrong.append(error)
                raise

        plain = Descriptor(media_type=one.media_type, digest=one.digest, size=one.size)
        mounts = self._mounts(target)
        try:
            await target.transport.push(target.name, plain, pieces, target.credentials, mounts)
        except BoxwoodError as error:
            # A transport may take what the source says for a fault of its own line.
            found = wrong[-1] if wrong else error
            if not (one.urls and isinstance(found, NotFound)):
                raise found from error
            # A foreign layer, which is fetched from elsewhere.
            self._say(f"{_short(one.digest)}: Left out: it is not in the source")
            return
        self._say(f"{_short(one.digest)}: {'Copied' if asked else 'Already exists'}")

    def _mounts(self, target: End) -> tuple[str, ...]:
        here, there = self._source.name, target.name
        if not (isinstance(here, Reference) and isinstance(there, Reference)):
            return ()
        same = here.domain == there.domain and here.path != there.path
        return (here.path,) if same else ()


async def chosen(source: End, found: Descriptor, platform: Platform) -> Descriptor:
    """Return the manifest of a platform, which an index, or indexes within one, name.

    Raises:
        NotFound: they name none; and as :meth:`Copy.run`.
    """
    for _ in range(DEPTH):
        if found.media_type not in INDEXES:
            return found
        data = await fetch_document(source.transport, source.name, found, source.credentials)
        found = _of_platform(source, decode_manifest(data, found), found, platform)
    raise InvalidArgument(f"copy {source}: indexes within indexes")


def _of_platform(source: End, index: Manifest, found: Descriptor, machine: Platform) -> Descriptor:
    entries = (one for one in index.manifests or () if one.media_type in MANIFESTS | INDEXES)
    if (entry := best(entries, machine)) is None:
        raise NotFound(f"copy {source}: {found.digest} has no image for {machine}")
    return entry


async def checked(source: End, one: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield a blob from an offset on, however often its source breaks off.

    From the start on, the last piece is only yielded when the digest is right.

    Raises:
        DataLoss: other bytes came.
        Unavailable and what else the transport says.
    """
    digest = Digest.parse(one.digest)
    hasher = digest.hasher()
    hashing = Beside(hasher.update)
    at, held, failures = offset, b"", 0
    while at < one.size:
        before = at
        stream = source.transport.fetch(source.name, one, at, source.credentials)
        try:
            async with aclosing(stream) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if len(piece) > one.size - at:
                        raise InvalidArgument(f"copy: {digest}: more than its {one.size} bytes")
                    at += len(piece)
                    if not offset:
                        await hashing.take(piece)
                    if held:
                        yield held
                    held = piece
            broken: BoxwoodError = DataLoss(f"copy: {digest}: ended after {at} bytes")
        except (Unavailable, DataLoss) as error:
            broken = error
        if at == one.size:
            break
        failures = failures + 1 if at == before else 0
        if failures == ATTEMPTS:
            raise broken
        await asyncio.sleep(PAUSE * 2**failures if failures else 0)
    await hashing.finish()
    if not offset and Digest.from_hasher(hasher, digest.algorithm) != digest:
        raise InvalidArgument(f"copy: {digest}: other bytes came from {source}")
    if held:
        yield held


class Beside:
    """Pieces that are worked on in a thread while the next ones come, in their order."""

    def __init__(self, work: Callable[[bytes], object]) -> None:
        """``work`` is given a mebibyte or more at once."""
        self._work = work
        self._held: list[bytes] = []
        self._size = 0
        self._running: asyncio.Future[object] | None = None

    async def take(self, piece: bytes) -> None:
        """Take a piece; waits when two mebibytes would wait. Raises what the work does."""
        self._held.append(piece)
        self._size += len(piece)
        if self._size >= AT_ONCE:
            await self._begin()

    async def finish(self) -> None:
        """Wait until all is done; raises what the work does."""
        if self._held:
            await self._begin()
        if self._running is not None:
            await self._running

    async def _begin(self) -> None:
        if self._running is not None:
            await self._running
        whole, self._held, self._size = b"".join(self._held), [], 0
        self._running = asyncio.ensure_future(asyncio.to_thread(self._work, whole))


def of(data: bytes) -> Callable[[int], AsyncIterator[bytes]]:
    """Return a document as a push reads it."""

    async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
        yield data[offset:]

    return pieces


def _short(digest: str) -> str:
    return Digest.parse(digest).hex[:SHORT]
