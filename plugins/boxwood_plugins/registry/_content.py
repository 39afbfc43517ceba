"""Content on its way into files: counted, digested, and there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import AlreadyExists, BoxwoodError, DataLoss, InvalidArgument, PermissionDenied
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from boxwood.model.descriptor import Descriptor
    from boxwood.model.digest import Hasher

PIECE = 1 << 20
"""Bytes that one thread reads, or hashes and writes, before the event loop has its turn."""
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)

T = TypeVar("T")
Source = Callable[[int], AsyncIterator[bytes]]


class Extent(NamedTuple):
    """Bytes of an open file; whoever has it closes ``fd``."""

    fd: int
    start: int
    size: int


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


@asynccontextmanager
async def entered(make: Callable[[], AbstractContextManager[T]]) -> AsyncIterator[T]:
    """Make and enter, in a thread, what opens something; it is left when the block is."""

    def enter() -> tuple[AbstractContextManager[T], T]:
        context = make()
        return context, context.__enter__()

    context, opened = await in_thread(enter, lambda both: both[0].__exit__(None, None, None))
    try:
        yield opened
    finally:
        context.__exit__(None, None, None)


async def gather(source: Source, take: Callable[[bytes], object]) -> None:
    """Hand all of a source to ``take``, in threads, in pieces of about a mebibyte.

    While one piece is taken the next one comes.
    """
    held: list[bytes] = []
    size = 0
    running: asyncio.Task[object] | None = None
    try:
        async with aclosing(source(0)) as stream:  # type: ignore[type-var]
            async for piece in stream:
                held.append(piece)
                size += len(piece)
                if size >= PIECE:
                    whole = b"".join(held)
                    held, size = [], 0
                    if running is not None:
                        await running
                    running = asyncio.ensure_future(in_thread(functools.partial(take, whole)))
        if running is not None:
            await running
        if held:
            await in_thread(functools.partial(take, b"".join(held)))
    finally:
        if running is not None:
            await dropped(running)


async def dropped(task: asyncio.Future[Any]) -> None:
    """End a task and wait for it; its error, if it has one, is told by others."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


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
