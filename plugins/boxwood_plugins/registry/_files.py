"""Files that images lie in: a folder opened beneath itself, and content that goes in and out of it.

What is in a folder is a stranger's: names are opened beneath it, no symbolic link is followed, and
only regular files count. What is written appears under its name whole and on the disk, or not.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from boxwood.model.descriptor import DOCUMENT_LIMIT, Descriptor
from boxwood.model.digest import Digest
from boxwood_ext import mount

if TYPE_CHECKING:
    from boxwood.model.digest import Hasher

PIECE = 1 << 20
"""Bytes that one thread reads, or hashes and writes, before the event loop has its turn."""
LOCK_TRIES, LOCK_WAIT = 300, 0.1
"""How often, and how many seconds apart: who holds the lock only writes a document."""
_BENEATH = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS | mount.RESOLVE_NO_MAGICLINKS
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)

T = TypeVar("T")
Source = Callable[[int], AsyncIterator[bytes]]


class Extent(NamedTuple):
    """Bytes of an open file; whoever has it closes ``fd``."""

    fd: int
    start: int
    size: int


class Place(Protocol):
    """Files by name: a folder, or an archive."""

    def open(self, path: str) -> Extent:
        """Return a regular file's content; raises NotFound, InvalidArgument."""

    def close(self) -> None:
        """Let go of it."""


def failed(operation: str, target: object, error: OSError) -> BoxwoodError:
    """Return the error of a failed system call, worded ``operation: object: cause``."""
    if isinstance(error, PermissionError):
        return PermissionDenied(f"{operation}: {target}: {error.strerror}")
    return as_boxwood_error(operation, target, error)


async def in_thread(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run blocking work in a thread; one that has begun is waited for, cancelled or not.

    So what it uses is not closed, or used by others, under it. What it opened for somebody who
    is cancelled meanwhile nobody would close: ``undo`` does.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if undo is not None and running.exception() is None:
            undo(running.result())
        raise


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


async def gather(source: Source, take: Callable[[bytes], object]) -> None:
    """Hand all of a source to ``take``, in threads, in pieces of about a mebibyte."""
    held: list[bytes] = []
    size = 0
    async with aclosing(source(0)) as stream:  # type: ignore[type-var]
        async for piece in stream:
            held.append(piece)
            size += len(piece)
            if size >= PIECE:
                whole = b"".join(held)
                held, size = [], 0
                await in_thread(lambda whole=whole: take(whole))  # type: ignore[misc]
    if held:
        whole = b"".join(held)
        await in_thread(lambda: take(whole))


class Sink:
    """Bytes on their way into a file, counted, digested, and no more than announced."""

    def __init__(self, fd: int, descriptor: Descriptor) -> None:
        self.fd = fd
        self._digest, self._size = Digest.parse(descriptor.digest), descriptor.size
        self._hasher: Hasher = self._digest.hasher()
        self._at = 0

    def take(self, piece: bytes) -> None:
        """Take a piece; raises InvalidArgument, ResourceExhausted."""
        if self._at + len(piece) > self._size:
            raise InvalidArgument(f"push: {self._digest}: more than its {self._size} bytes came")
        self._hasher.update(piece)
        self.write(piece)
        self._at += len(piece)

    def write(self, piece: bytes) -> None:
        """Write a piece that counts."""
        write_all(self.fd, piece)

    def end(self) -> None:
        """Check the whole; raises InvalidArgument."""
        if self._at != self._size:
            raise InvalidArgument(f"push: {self._digest}: {self._at} of {self._size} bytes came")
        found = Digest.from_hasher(self._hasher, self._digest.algorithm)
        if found != self._digest:
            raise InvalidArgument(f"push: {self._digest}: other bytes came: {found}")


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; raises ResourceExhausted and what else the file system says."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:
            raise failed("write", "an image's file", error) from error


def nameless(directory: int) -> int:
    """Return a new file that goes with its descriptor, on the disk of an open directory."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o644, dir_fd=directory)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise failed("make file", "in the image's directory", error) from error
    name = f".boxwood-{os.urandom(8).hex()}"
    try:
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        raise failed("make file", name, error) from error
    return fd


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
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOCK_WAIT)
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


def publish(fd: int, directory: int, name: str) -> None:
    """Give a nameless file its name, over a broken one of another size."""
    try:
        os.fsync(fd)
        try:
            link(fd, directory, name)
        except AlreadyExists:
            passing = f".{name}.{os.urandom(4).hex()}"
            link(fd, directory, passing)
            os.rename(passing, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        raise failed("write", name, error) from error


def link(fd: int, directory: int, name: str) -> None:
    """Link a nameless file into a directory, or copy it where its file system cannot.

    Raises:
        AlreadyExists: there is something of that name.
        OSError
    """
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
        return
    except FileExistsError as error:
        raise AlreadyExists(f"write: {name}: is there already") from error
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EXDEV, errno.EOPNOTSUPP, errno.EPERM):
            raise
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(name, flags, 0o644, dir_fd=directory)
    try:
        copied(Extent(fd, 0, os.fstat(fd).st_size), copy)
        os.fsync(copy)
    finally:
        os.close(copy)


def copied(source: Extent, goal: int) -> None:
    """Copy an extent to where a file stands.

    Raises:
        DataLoss: it was cut short.
        OSError
    """
    at, end = source.start, source.start + source.size
    while at < end:
        sent = os.sendfile(goal, source.fd, at, min(end - at, 1 << 30))
        if not sent:
            raise DataLoss("write: a file was cut short while it was copied")
        at += sent
