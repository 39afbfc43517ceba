"""Worker processes: where the engine does what may hang, takes long or reads hostile bytes.

One *keeper* process is kept warm: a small Python that has loaded what the jobs need, gave up its
rights (:mod:`boxwood.execution.confine`) and forks one child for each job. A child serves one job
and ends, so hostile bytes never meet a process that serves anybody else, any number of jobs run
side by side, and killing one leaves the rest alone. Measured: a job costs 2 ms beyond its work; a
Python started anew for each, 60.

A request is one datagram on the keeper's socket: the job's own socket and its descriptors by
SCM_RIGHTS, name and arguments as MessagePack. The child answers on the job's socket: first a
pidfd of itself, then the result or the error. The daemon holds the pidfd, so it kills exactly
that child, when the deadline passes or nobody waits any longer.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

import boxwood
import boxwood_ext
from boxwood import errors
from boxwood.errors import BoxwoodError, DeadlineExceeded, Internal, Unavailable
from boxwood.execution.mounting import open_sealed
from boxwood.execution.worker_wire import HOST_DIRECTORY, MESSAGE_LIMIT, Answer, Request

DEFAULT_DEADLINE = 60.0
"""Seconds for a job whose caller says nothing."""
LONG_DEADLINE = 3600.0
"""Seconds for jobs that copy or delete trees."""
JOBS_AT_ONCE = 16
"""Children at a time; more wait. Each is some 3 MB of its own."""
_TRIES = 3
"""A job that never began because the keeper died is given to the next keeper."""

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Of glibc, mallopt(3): a job passes pieces of 256 KiB on and would else give each one back to the
kernel and have it zeroed again: a fifth of the time that unpacking takes."""

_DEADLINES = {
    "assemble_layer": LONG_DEADLINE,
    "chunk_layer": LONG_DEADLINE,
    "convert_whiteouts": LONG_DEADLINE,
    "copy_tree": LONG_DEADLINE,
    "diff_layer": LONG_DEADLINE,
    "hash_file": LONG_DEADLINE,
    "join_layer": LONG_DEADLINE,
    "match_layer": LONG_DEADLINE,
    "pack_layer": LONG_DEADLINE,
    "plain_layer": LONG_DEADLINE,
    "remove_tree": LONG_DEADLINE,
    "send_layer": LONG_DEADLINE,
    "split_archive": LONG_DEADLINE,
    "sync": 600.0,
    "tar_tree": LONG_DEADLINE,
    "tree_usage": 600.0,
    "untar_tree": LONG_DEADLINE,
    "unpack_layer": LONG_DEADLINE,
}

_READERS = frozenset({"diff_layer", "tar_tree"})
"""Jobs that only read trees, all directories but the first descriptor, the sink: they get copies in
which nothing can be written and no device opened."""


def search_path() -> list[str]:
    """Return what ``sys.path`` a child needs, to be started without the site module."""
    own = [str(Path(package.__path__[0]).parent) for package in (boxwood, boxwood_ext)]
    return [*own, *(entry for entry in sys.path if entry)]


class WorkerPool:
    """The daemon's side. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._slots = asyncio.Semaphore(JOBS_AT_ONCE)
        # Apart: a hung file system of the host must not use up what everybody needs.
        self._host_slots = asyncio.Semaphore(JOBS_AT_ONCE)
        self._closed = False

    async def warm(self) -> None:
        """Start the keeper, if it does not run, and wait until it serves."""
        await self.call("ping", {})

    async def offload(
        self, job: str, arguments: Mapping[str, Any], fds: Sequence[int]
    ) -> dict[str, Any]:
        """Run a job with the deadline that is usual for it: what storage drivers are given."""
        deadline = _DEADLINES.get(job, DEFAULT_DEADLINE)
        if job not in _READERS:
            return await self.call(job, arguments, fds, deadline)
        with ExitStack() as stack:
            given = list(fds)
            for at, fd in enumerate(given[1:], 1):
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    given[at] = open_sealed(fd)
                    stack.callback(os.close, given[at])
            return await self.call(job, arguments, given, deadline)

    async def call(
        self,
        function_name: str,
        args: Mapping[str, Any],
        fds: Sequence[int] = (),
        deadline: float = DEFAULT_DEADLINE,
    ) -> dict[str, Any]:
        """Run the job ``function_name`` of :mod:`boxwood.execution.worker_jobs`.

        Args:
            function_name: the job.
            args: its arguments, anything that MessagePack holds.
            fds: descriptors, in the job's order; they stay the caller's.
            deadline: seconds from the start of the job; then it is killed.

        Raises:
            DeadlineExceeded: it was killed.
            Unavailable: no worker could be started, or it died.
            BoxwoodError: what the job itself raised.
        """
        on_host = function_name == "probe_path" or HOST_DIRECTORY in args
        async with self._host_slots if on_host else self._slots:
            for _ in range(_TRIES):
                data = await self._once(Request(function_name, dict(args)), fds, deadline)
                if data is not None:
                    return _unpack(function_name, data)
        raise Unavailable(f"worker: {function_name}: the keeper of the workers keeps dying")

    async def _once(self, request: Request, fds: Sequence[int], deadline: float) -> bytes | None:
        """Return the answer; None when the keeper died before it began the job."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._send(request, [theirs.fileno(), *fds])
            return await self._follow(request.job, ours, deadline)

    async def _send(self, request: Request, fds: Sequence[int]) -> None:
        data = msgspec.msgpack.encode(request)
        if len(data) > MESSAGE_LIMIT:
            raise Internal(f"worker: {request.job}: arguments larger than {MESSAGE_LIMIT} bytes")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        for attempt in range(200):
            control = self._ensure_keeper()
            try:
                control.sendmsg([data], rights)
                return
            except BlockingIOError:
                await asyncio.sleep(0.005)
            except (BrokenPipeError, ConnectionError):
                self._drop_keeper()
                if attempt > 2:
                    break
        raise Unavailable(f"worker: {request.job}: the keeper of the workers takes no work")

    async def _follow(self, job: str, channel: socket.socket, deadline: float) -> bytes | None:
        pidfd = -1
        try:
            async with asyncio.timeout(deadline):
                pidfd = await _receive_pidfd(channel)
                if pidfd < 0:
                    return None
                data = await asyncio.get_running_loop().sock_recv(channel, MESSAGE_LIMIT)
        except TimeoutError:
            _kill(pidfd)
            raise DeadlineExceeded(f"worker: {job}: not done after {deadline:g} s") from None
        except BaseException:
            _kill(pidfd)
            raise
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        if not data:
            raise Unavailable(f"worker: {job}: the worker died")
        return data

    def _ensure_keeper(self) -> socket.socket:
        if self._closed:
            raise Unavailable("worker: the engine is stopping")
        if self._keeper is not None and self._keeper.poll() is not None:
            self._drop_keeper()
        if self._control is None:
            self._control, self._keeper = _start_keeper()
        return self._control

    def _drop_keeper(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
        self._control = self._keeper = None

    async def close(self) -> None:
        """End the keeper and all its children. Idempotent."""
        self._closed = True
        self._drop_keeper()


def _start_keeper() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    # msgspec asks for typing_extensions and does without; where something else has brought it, it
    # would bring inspect, dis and ast along: 1.2 MB in every worker.
    code = (
        f"import sys; sys.path[:] = {search_path()!r}; sys.modules['typing_extensions'] = None; "
        f"from boxwood.execution.worker_keeper import main; main({theirs.fileno()})"
    )
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"LC_ALL": "C.UTF-8", **_MALLOC},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unavailable(f"worker: start: {error}") from error
    return ours, process


async def _receive_pidfd(channel: socket.socket) -> int:
    """Wait for the child's first message; -1 when it died before."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_reader(channel, _set, ready)
            try:
                await ready
            finally:
                loop.remove_reader(channel)
            continue
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS and len(data) >= 4:
                return int.from_bytes(data[:4], sys.byteorder)
        return -1


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _kill(pidfd: int) -> None:
    # Without a pidfd the child has not begun: it finds its socket closed, and ends.
    if pidfd >= 0:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return


def _unpack(job: str, data: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.msgpack.decode(data, type=Answer)
    except msgspec.MsgspecError as error:
        raise Internal(f"worker: {job}: broken answer: {error}") from error
    if answer.result is not None:
        return answer.result
    kind = getattr(errors, answer.error, None)
    if not (isinstance(kind, type) and issubclass(kind, BoxwoodError)):
        kind = Internal
    raise kind(answer.message)
