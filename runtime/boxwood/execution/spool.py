"""A client's stream on its way to a worker or to a file, with bounded memory."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from boxwood.drivers.storage import as_boxwood_error
from boxwood.store.piping import PIPE_SIZE, writable

T = TypeVar("T")


async def to_file(stream: AsyncIterator[bytes], file: Path) -> int:
    """Write a stream to a new file; returns its size in bytes.

    Raises:
        ResourceExhausted: the disk is full; what was written is the caller's to delete.
    """
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise as_boxwood_error("receive", "the archive", error) from error
    try:
        return await to_fd(stream, fd)
    finally:
        os.close(fd)


async def to_fd(stream: AsyncIterator[bytes], fd: int) -> int:
    """Likewise, to a file that is open."""
    size = 0
    async for chunk in stream:
        _write(fd, chunk)
        size += len(chunk)
    return size


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise as_boxwood_error("receive", "the archive", error) from error


async def to_pipe(stream: AsyncIterator[bytes], fd: int) -> None:
    """Write a stream to a pipe, which is closed in the end, whatever happens.

    A reader that has gone ends it without an error: the reader says why itself.
    """
    try:
        os.set_blocking(fd, False)
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        async for chunk in stream:
            if not await _pass_on(fd, chunk):
                return
    finally:
        os.close(fd)


async def fed(stream: AsyncIterator[bytes], job: Callable[[int], Awaitable[T]]) -> T:
    """Return what ``job(fd)`` returns, which reads the stream from ``fd``, a pipe.

    Raises what the job or the stream raises. A job that has enough may end before the stream does.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    feeding = asyncio.ensure_future(to_pipe(stream, write_end))
    work = asyncio.ensure_future(job(read_end))
    try:
        await asyncio.wait([work, feeding], return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()  # the client may have gone
        return await work
    finally:
        for task in (work, feeding):
            task.cancel()
        # Before anything is awaited: who goes away may cancel a second time, here.
        os.close(read_end)
        await asyncio.wait([work, feeding])


async def _pass_on(fd: int, chunk: bytes) -> bool:
    """Write a chunk to the pipe; False: nobody reads any longer."""
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await writable(fd)
        except BrokenPipeError:
            return False
    return True
