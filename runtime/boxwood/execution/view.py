"""A container's tree with its volumes, as one descriptor, beside the container.

A stopped container has no namespace in which its volumes are mounted; one that runs has more in
its tree than is its own (``/proc``, ``/dev``). Where neither will do, a process of its own puts
the mounts together in a mount namespace that lives as long as a descriptor of it is held: works
on every kernel (mounting onto detached mounts needs Linux 6.15), and no host path that may hang is
opened by the daemon. It costs a start of Python, some 60 ms.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from boxwood.errors import DeadlineExceeded, Unavailable
from boxwood.execution.view_child import ViewMount, ViewRequest
from boxwood.execution.worker import search_path

DEADLINE = 20.0
"""Seconds for putting a tree together: a volume's file system may hang."""
_REAP = 2.0
"""Seconds that the end of the process is waited for."""


@asynccontextmanager
async def assembled(
    given: int, *, namespace: bool, mounts: Sequence[ViewMount] = (), read_only: bool = False
) -> AsyncIterator[int]:
    """``async with assembled(fd, ...) as root``: an O_PATH descriptor of the tree.

    Args:
        given: a container's mount namespace (``namespace``), or its root, a detached mount that
            is attached nowhere; stays the caller's.
        mounts: what is seen in it beyond the root's own file system.
        read_only: nothing of the root's own file system may be changed.

    Raises:
        Unavailable: a source is gone, the kernel refuses.
        DeadlineExceeded: a source's file system does not answer.
    """
    request = ViewRequest(namespace, tuple(mounts), read_only)
    fds = await _run(msgspec.json.encode(request), given)
    try:
        yield fds[0]
    finally:
        for fd in fds:
            os.close(fd)


async def _run(data: bytes, given: int) -> list[int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        with theirs:
            process = _start(theirs)
        try:
            socket.send_fds(ours, [data], [given])
            async with asyncio.timeout(DEADLINE):
                return await _answer(ours)
        except TimeoutError as error:
            raise DeadlineExceeded("look into container: its volumes do not answer") from error
        except OSError as error:
            raise Unavailable(f"look into container: {error.strerror or error}") from error
        finally:
            process.kill()
            await _reap(process)


def _start(channel: socket.socket) -> subprocess.Popen[bytes]:
    code = (
        f"import sys; sys.path[:] = {search_path()!r}; sys.modules['typing_extensions'] = None; "
        f"from boxwood.execution.view_child import main; main({channel.fileno()})"
    )
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[channel.fileno()],
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"look into container: start: {error}") from error


async def _answer(channel: socket.socket) -> list[int]:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(channel, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(channel)
    data, fds, _, _ = socket.recv_fds(channel, 1 << 16, 2, socket.MSG_CMSG_CLOEXEC)
    if fds:
        return list(fds)
    told = msgspec.json.decode(data).get("error") if data else "the process ended"
    raise Unavailable(f"look into container: {told}")


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment for the end; what hangs in the kernel is reaped by a later Popen."""
    waited = 0.0
    while process.poll() is None and waited < _REAP:
        await asyncio.sleep(0.002)
        waited += 0.002
