"""Files that images lie in: a folder opened beneath itself, and content that goes in and out of it.

What is in a folder is a stranger's: names are opened beneath it, no symbolic link is followed, and
only regular files count. What is written appears under its name whole and on the disk, or not.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Protocol, Self

from boxwood.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    TooLarge,
    Unavailable,
)
from boxwood.model.descriptor import DOCUMENT_LIMIT, Descriptor
from boxwood_ext import mount
from boxwood_plugins.registry._content import (
    PIECE,
    Extent,
    Sink,
    Source,
    failed,
    gather,
    in_thread,
    nameless,
    publish,
    write_all,
)

LOCK_TRIES, LOCK_WAIT = 300, 0.1
"""How often, and how many seconds apart at most: who holds the lock only writes a document."""
_BENEATH = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS


class Place(Protocol):
    """Files by name: a folder, or an archive."""

    def open(self, path: str) -> Extent:
        """Return a regular file's content; raises NotFound, InvalidArgument."""

    def close(self) -> None:
        """Let go of it."""


def read(place: Place, path: str, limit: int = DOCUMENT_LIMIT) -> bytes:
    """Return a document; raises NotFound, InvalidArgument, TooLarge, DataLoss."""
    extent = place.open(path)
    try:
        if extent.size > limit:
            raise TooLarge(f"{path[:300]}: larger than {limit} bytes")
        data = os.pread(extent.fd, extent.size, extent.start)
    finally:
        os.close(extent.fd)
    if len(data) != extent.size:
        raise DataLoss(f"{path[:300]}: was cut short")
    return data


def has(place: Place, path: str) -> bool:
    """Is there a regular file of that name?"""
    try:
        os.close(place.open(path).fd)
    except (NotFound, InvalidArgument):
        return False
    return True


async def pieces(extent: Extent, offset: int = 0) -> AsyncGenerator[bytes, None]:
    """Yield what an extent holds from an offset on, and close it; raises DataLoss."""
    try:
        at, end = extent.start + offset, extent.start + extent.size
        while at < end:
            count = min(PIECE, end - at)
            piece = await in_thread(lambda at=at, count=count: os.pread(extent.fd, count, at))  # type: ignore[misc]
            if not piece:
                raise DataLoss("a file was cut short while it was read")
            at += len(piece)
            yield piece
    finally:
        os.close(extent.fd)


async def content(
    place: Place, path: str, descriptor: Descriptor, offset: int = 0
) -> AsyncGenerator[bytes, None]:
    """Yield a file that is to be what ``descriptor`` says.

    Raises:
        NotFound: it is not there.
        DataLoss: it is of another size.
    """
    extent = await in_thread(lambda: place.open(path), lambda opened: os.close(opened.fd))
    if extent.size != descriptor.size:
        os.close(extent.fd)
        raise DataLoss(f"{path[:300]}: has {extent.size} bytes, {descriptor.size} were announced")
    async with aclosing(pieces(extent, offset)) as stream:
        async for piece in stream:
            yield piece


class Folder:
    """One folder. ``with Folder(path) as folder``; with ``make`` it is made if it is not there."""

    def __init__(self, path: str, *, make: bool = False) -> None:
        self.path = path
        try:
            if make:
                os.makedirs(path, mode=0o755, exist_ok=True)
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"{path}: no such directory") from error
        except NotADirectoryError as error:
            raise InvalidArgument(f"{path}: not a directory") from error
        except OSError as error:
            raise failed("open", path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)

    def names(self) -> list[str]:
        """Return what lies in it, sorted."""
        return sorted(os.listdir(self.fd))

    def open(self, path: str) -> Extent:
        """Open a regular file beneath the folder.

        Raises:
            NotFound: there is none of that name.
            InvalidArgument: it is something else, or a link is on the way.
        """
        try:
            fd = mount.openat2(self.fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=_BENEATH)
        except FileNotFoundError as error:
            raise NotFound(f"{self.path}/{path[:300]}: not there") from error
        except (OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise failed("open", f"{self.path}/{path[:300]}", error) from error
            raise InvalidArgument(
                f"{self.path}/{path[:300]}: not a file of its own beneath the directory"
            ) from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise InvalidArgument(f"{self.path}/{path[:300]}: not a regular file")
        return Extent(fd, 0, found.st_size)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers of the folder out; raises Unavailable when one does not leave."""
        for tried in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(min(LOCK_WAIT, 0.001 * 2 ** min(tried, 10)))
        else:
            raise Unavailable(f"{self.path}: another program keeps it locked")
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def directory(self, path: str) -> int:
        """Return a descriptor of a directory beneath the folder, made if it is not there."""
        try:
            at = os.dup(self.fd)
            for part in path.split("/") if path else ():
                try:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=at)
                    below = mount.openat2(at, part, os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)
                finally:
                    os.close(at)
                at = below
        except OSError as error:
            raise failed("make directory", f"{self.path}/{path}", error) from error
        return at

    async def store(self, path: str, descriptor: Descriptor, source: Source) -> None:
        """Write content under a name of its digest, once: what is there in that size stays.

        Raises:
            InvalidArgument: other bytes came; nothing of them is left.
            ResourceExhausted
        """
        if await in_thread(lambda: self._is_there(path, descriptor.size)):
            return
        head, _, name = path.rpartition("/")
        directory = await in_thread(lambda: self.directory(head), os.close)
        try:
            fd = await in_thread(lambda: nameless(directory), os.close)
            try:
                sink = Sink(fd, descriptor)
                await gather(source, sink.take)
                sink.end()
                await in_thread(lambda: publish(fd, directory, name))
            finally:
                os.close(fd)
        finally:
            os.close(directory)

    def _is_there(self, path: str, size: int) -> bool:
        try:
            extent = self.open(path)
        except NotFound:
            return False
        os.close(extent.fd)
        return extent.size == size

    def replace(self, name: str, data: bytes) -> None:
        """Write a document over what is there of that name; under :meth:`locked`.

        Raises:
            ResourceExhausted and what else the file system says.
        """
        passing = f".{name}.boxwood"  # one left by a crash is the next one's
        try:
            with suppress(FileNotFoundError):
                os.unlink(passing, dir_fd=self.fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(passing, flags, 0o644, dir_fd=self.fd)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(passing, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError as error:
            raise failed("write", f"{self.path}/{name}", error) from error
