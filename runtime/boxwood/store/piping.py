"""What a worker's job writes, as an asynchronous stream with bounded memory."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

PIPE_SIZE = 1 << 20
"""Bytes of a pipe, and of one piece (the limit for the unprivileged, fs.pipe-max-size): at the
usual 64 KiB either side waits for the other after each piece."""

Job = Callable[[int], Awaitable[Any]]
"""Given the descriptor to write to, runs until all is written. The descriptor stays ours."""


async def piped(job: Job) -> AsyncGenerator[bytes, None]:
    """Yield what the job writes, as it comes; then raise what the job raised, if anything.

    Whoever stops reading closes the iterator (:func:`contextlib.aclosing`): the job is cancelled
    and waited for, and no descriptor is left.
    """
    async with opened(job) as read_end:
        while piece := await read_some(read_end):
            yield piece


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[int, None]:
    """``async with opened(job) as fd``: what the job writes can be read from ``fd``.

    It does not block (see :func:`read_some`). Where the block ends by itself, the job is waited
    for, and what it raised is raised; else it is cancelled.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    # The worker's end blocks: its writer is compiled code that knows no event loop.
    os.set_blocking(write_end, True)
    work = asyncio.ensure_future(_whole(job, write_end))
    # By callback: a task that is cancelled before its first step would never close it.
    work.add_done_callback(lambda _: os.close(write_end))
    try:
        yield read_end
    except BaseException:
        # Before anything is awaited: a client that goes away may cancel a second time, here.
        os.close(read_end)
        work.cancel()
        await asyncio.wait([work])
        raise
    # A job that still writes finds nobody there.
    os.close(read_end)
    try:
        await work
    finally:
        work.cancel()
        await asyncio.wait([work])


async def _whole(job: Job, write_end: int) -> Any:
    return await job(write_end)


async def read_some(fd: int) -> bytes:
    """Return the next bytes of a pipe that does not block, or of a file; empty: its end."""
    while True:
        try:
            return os.read(fd, PIPE_SIZE)
        except BlockingIOError:
            await readable(fd)


async def readable(fd: int) -> None:
    """Wait until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """Wait until there is room, or nobody reads any more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
