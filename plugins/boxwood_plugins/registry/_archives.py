"""Images in one file: what reading and writing of all kinds of archives share."""

from __future__ import annotations

import abc
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood.model.descriptor import INDEXES, MANIFESTS
from boxwood_plugins.registry._content import (
    Extent,
    Sink,
    Source,
    failed,
    gather,
    in_thread,
    nameless,
    publish,
)
from boxwood_plugins.registry._names import FileName, parse
from boxwood_plugins.registry._tars import Tar, write_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boxwood.drivers.registry import Credentials
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.digest import Digest
    from boxwood.model.reference import Reference


class Gathered:
    """What a push has brought so far: files without a name, which go with their descriptors."""

    def __init__(self, path: str, called: Reference | None) -> None:
        """Open the folder that the archive will be in; raises NotFound, InvalidArgument."""
        self.path, self.called = path, called
        self.contents: dict[str, Extent] = {}
        self.plain: dict[str, str] = {}
        """Diff ids of the layers that were decompressed, by digest."""
        self.top: Descriptor | None = None
        head = os.path.dirname(path)
        try:
            self._directory = os.open(head, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"{path}: {head}: no such directory") from error
        try:
            _check_goal(path)
        except BaseException:
            os.close(self._directory)
            raise

    async def take(self, descriptor: Descriptor, source: Source, sink: type[Sink] = Sink) -> Sink:
        """Keep content; raises InvalidArgument for other bytes than were announced."""
        fd = await in_thread(lambda: nameless(self._directory), os.close)
        try:
            filled = sink(fd, descriptor)
            await gather(source, filled.take)
            await in_thread(filled.end)
        except BaseException:
            os.close(fd)
            raise
        older = self.contents.get(descriptor.digest)
        self.contents[descriptor.digest] = Extent(fd, 0, os.fstat(fd).st_size)
        if older is not None:
            os.close(older.fd)
        return filled

    def read(self, digest: str) -> bytes:
        """Return a document that was brought; raises InvalidArgument when it was not."""
        extent = self.extent(digest)
        return os.pread(extent.fd, extent.size, 0)

    def extent(self, digest: str) -> Extent:
        """Return content that was brought; raises InvalidArgument when it was not."""
        if digest not in self.contents:
            raise InvalidArgument(f"push: {self.path}: {digest}: was not sent")
        return self.contents[digest]

    def write(self, files: list[tuple[str, bytes | Extent]]) -> None:
        """Make the archive and put it where it belongs; raises ResourceExhausted."""
        fd = nameless(self._directory)
        try:
            write_tar(fd, files)
            publish(fd, self._directory, os.path.basename(self.path))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Throw away what was brought."""
        for extent in self.contents.values():
            os.close(extent.fd)
        self.contents.clear()
        os.close(self._directory)


def _check_goal(path: str) -> None:
    """Raise InvalidArgument if an archive would take the place of something that is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidArgument(f"{path}: is there, and is no archive") from error
    try:
        found = os.fstat(fd)
        plain = stat.S_ISREG(found.st_mode)
        if not plain or (found.st_size and os.pread(fd, 5, 257) != b"ustar"):
            raise InvalidArgument(f"{path}: is there, and is no archive")
    except OSError as error:
        raise failed("read", path, error) from error
    finally:
        os.close(fd)


class ArchiveTransport(RegistryTransport[FileName]):
    """Archives: read where their files lie, written whole at the end of a push."""

    def __init__(self) -> None:
        self._open: dict[str, list[Tar]] = {}
        """The archives of the pulls that run, one for each."""
        self._gathered: dict[str, Gathered] = {}

    def parse(self, text: str) -> FileName:
        """Parse ``SCHEME:PATH[:IMAGE]``."""
        return parse(self.scheme, text)

    def pinned(self, name: FileName, digest: Digest) -> FileName:
        """Return the name of a manifest in the same archive."""
        return FileName(self.scheme, name.path, "", str(digest))

    # Sessions

    def session(
        self,
        name: FileName,
        session: Session = Session(),  # noqa: B008 - immutable
    ) -> AbstractAsyncContextManager[None]:
        """Read the archive's headers once, or gather what a push brings and write it."""
        return self._written(name, session) if session.writing else self._read(name)

    @asynccontextmanager
    async def _read(self, name: FileName) -> AsyncIterator[None]:
        tar = await in_thread(lambda: Tar(name.path), Tar.close)
        held = self._open.setdefault(name.path, [])
        held.append(tar)
        try:
            yield
        finally:
            held.remove(tar)
            if not held:
                del self._open[name.path]
            tar.close()

    @asynccontextmanager
    async def _written(self, name: FileName, session: Session) -> AsyncIterator[None]:
        if name.path in self._gathered:
            raise Conflict(f"push: {name}: is being written by another push")
        gathered = await in_thread(lambda: Gathered(name.path, session.called), Gathered.close)
        if name.path in self._gathered:
            gathered.close()
            raise Conflict(f"push: {name}: is being written by another push")
        self._gathered[name.path] = gathered
        try:
            yield
            if gathered.top is not None:
                await in_thread(lambda: self.finish(name, gathered))
        finally:
            del self._gathered[name.path]
            gathered.close()

    @contextmanager
    def archive(self, name: FileName) -> Iterator[Tar]:
        """Give the archive as the session opened it, or opened for once; call it in a thread."""
        held = self._open.get(name.path)
        if held:
            yield held[-1]
            return
        tar = Tar(name.path)
        try:
            yield tar
        finally:
            tar.close()

    # Content

    async def push(
        self,
        name: FileName,
        descriptor: Descriptor,
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        """Keep content until the push ends; a manifest that is not pinned is the archive's own."""
        del credentials, mount_from
        gathered = self._gathered.get(name.path)
        if gathered is None:
            raise InvalidArgument(f"push: {name}: an archive is written in a session")
        if descriptor.digest not in gathered.contents:
            await self.take(gathered, descriptor, source)
        if descriptor.media_type in INDEXES | MANIFESTS and not name.digest:
            gathered.top = descriptor

    async def take(self, gathered: Gathered, descriptor: Descriptor, source: Source) -> None:
        """Keep one content in the form that the archive will have it."""
        await gathered.take(descriptor, source)

    @abc.abstractmethod
    def finish(self, name: FileName, gathered: Gathered) -> None:
        """Write the archive of what was gathered; in a thread."""
