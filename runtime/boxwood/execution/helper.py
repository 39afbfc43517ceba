"""The daemon's side of the network helper (``boxwood_ext.helper_protocol``): find it, start it when
it is first needed, speak to it, replace it.

Life: :meth:`Helper.adopt` at the daemon's start (is there one?), :meth:`Helper.ensure` before what
needs it, any number of :meth:`Helper.request`, :meth:`Helper.close` at the daemon's end: the helper
goes on. Where it ends or is killed a new one is started, and who has something in it
(``restorers``) puts that there again. One of another build is asked to hand its sockets over to a
new one; what it has begun it finishes.

All of it runs on the event loop; every reply has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from boxwood.execution.shim_packets import close_all, send_packet
from boxwood.execution.shim_process import connect, seal
from boxwood.execution.shim_requests import Requests
from boxwood_ext import helper_protocol as protocol
from boxwood_ext import launch
from boxwood_ext.wire import Op, ProgramError, Value

log = logging.getLogger(__name__)

SOCKET: Final = "helper.sock"
REPLY_TIMEOUT: Final = 10.0
"""Seconds for any reply: the helper waits for nobody."""
RESTARTS: Final = 5
"""Times within a minute that a helper which dies is replaced at once; then it is waited."""
RESTART_WAIT: Final = 10.0
"""Seconds."""
SOCKET_BUFFER: Final = 1 << 20
"""Bytes towards the helper: a large zone at once."""
_MAX_FDS: Final = protocol.MAX_INSIDE + 2

_ERRORS: Final[dict[int, type[BoxwoodError]]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EINVAL: InvalidArgument,
    errno.E2BIG: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
}


class Present(msgspec.Struct):
    """A thing that a helper has; its descriptors, ours, when it was handed over."""

    kind: int
    owner: str
    key: str = ""
    inside: int = 0
    fds: list[int] = []


def program_path() -> Path:
    """The helper's program."""
    return Path(str(resources.files("boxwood_ext") / "bin" / "boxwood-helper"))


@cache
def _executable() -> tuple[int, str]:
    """The program, sealed in a memfd, and the name of its build."""
    path = program_path()
    return seal(path), hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class Helper:
    """The one helper of an engine.

    Attributes:
        pid: of its process, 0 before there is one.
        present: what it had when it was connected to, by (kind, owner, key).
        on_asked: called with sandbox, name, and whether it was asked for elsewhere, of sandboxes
            under an egress policy.
        restorers: called, in order, after a new one was started.
    """

    def __init__(self, directory: Path) -> None:
        """``directory``: where its socket is, the engine's exec-root."""
        self.pid = 0
        self.on_asked: Callable[[str, str, bool], None] | None = None
        self.present: dict[tuple[int, str, str], Present] = {}
        self.restorers: list[Callable[[], Awaitable[None]]] = []
        self._directory = directory
        self._socket: socket.socket | None = None
        self._opening = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._requests = Requests()
        self._ready: asyncio.Future[str] | None = None
        self._counters = b""
        self._pidfds: set[int] = set()
        self._restarts: deque[float] = deque(maxlen=RESTARTS)
        self._restarting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Is there one, as far as we know?"""
        return self._socket is not None

    # ---- coming and going

    async def adopt(self) -> bool:
        """Connect to the one that runs; False: none does. One of another build is replaced.

        Raises:
            Unavailable, DeadlineExceeded: there is one, and it cannot be reached or replaced.
        """
        async with self._opening:
            return self.connected or await self._adopt()

    async def ensure(self) -> bool:
        """Have one. True: it was started just now, and the restorers have filled it.

        Raises:
            Unavailable: it cannot be started.
            DeadlineExceeded: it does not answer.
        """
        # One that is being filled by the restorers is waited for.
        if self.connected and not self._opening.locked():
            return False
        async with self._opening:
            if self.connected or await self._adopt():
                return False
            await self._spawn()
            for restore in self.restorers:
                await restore()
            return True

    async def _adopt(self) -> bool:
        connection = connect(self._directory, SOCKET)
        if connection is None:
            return False
        try:
            build = await self._use(connection)
        except (Unavailable, DeadlineExceeded) as error:
            # It speaks another version, or not at all: what it held is made anew.
            log.warning("%s: it is replaced", error)
            _kill(self.pid)
            return False
        if build != _executable()[1]:
            await self._replace()
        return True

    async def _replace(self) -> None:
        """Take the sockets of one of another build, and start ours."""
        self.present.clear()
        self._ready = asyncio.get_running_loop().create_future()
        await self.request("give")
        given = self.present
        self._disconnect("was replaced")
        try:
            await self._spawn()
        finally:
            self.present = given

    async def _spawn(self) -> None:
        self._closed = False
        executable, build = _executable()
        listener = listen_at(self._directory, SOCKET)
        try:
            # The folder is for people who look at a list of processes.
            args = (b"boxwood-helper", build.encode(), os.fsencode(self._directory))
            pid, pidfd = launch.spawn_shim(executable, [listener.fileno()], args)
        except OSError as error:
            raise Unavailable(f"helper: start: {error.strerror}") from error
        finally:
            listener.close()
        self._reap_later(pidfd)
        connection = connect(self._directory, SOCKET)
        if connection is None:
            raise Unavailable("helper: it ended at once")
        await self._use(connection)
        self.pid = pid  # the socket was ours a moment ago

    def _reap_later(self, pidfd: int) -> None:
        """Collect the process when it ends, if this daemon still is its parent."""
        loop = asyncio.get_running_loop()
        self._pidfds.add(pidfd)

        def ended() -> None:
            loop.remove_reader(pidfd)
            self._pidfds.discard(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            os.close(pidfd)

        loop.add_reader(pidfd, ended)

    async def _use(self, connection: socket.socket) -> str:
        """Speak over this connection from now on; the helper's build, once it told what it has."""
        loop = asyncio.get_running_loop()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid = struct.unpack("iII", credentials)[0]
        self.present = {}
        self._socket = connection
        self._ready = loop.create_future()
        loop.add_reader(connection.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await self._ready
        except TimeoutError as error:
            self._disconnect("does not answer")
            raise DeadlineExceeded("helper: it said nothing of its state") from error

    async def close(self) -> None:
        """Let go of it: it goes on with what it holds; with nothing it ends. Idempotent."""
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._restarting
        self._disconnect("the engine stops")
        self.drop_given()
        for pidfd in self._pidfds:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
        self._pidfds.clear()

    def drop_given(self) -> None:
        """Close the sockets that were handed over and nobody wanted."""
        for thing in self.present.values():
            close_all(thing.fds)
            thing.fds = []

    def _disconnect(self, why: str) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()
        self._requests.fail_all(f"helper: {why}")
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(Unavailable(f"helper: {why}"))
            self._ready.exception()

    def _lost(self) -> None:
        """It ended, or hung up: have another, if it had been of use before."""
        was_ready = self._ready is not None and self._ready.done()
        self._disconnect("is gone")
        self.present = {}
        if self._closed or not was_ready:
            return
        now = time.monotonic()
        many = len(self._restarts) == RESTARTS and now - self._restarts[0] < 60
        self._restarts.append(now)
        wait = RESTART_WAIT if many else 0.0
        log.warning("helper: is gone: a new one is started" + f" in {wait:g} s" * many)
        self._restarting = asyncio.get_running_loop().create_task(self._restart(wait))

    async def _restart(self, wait: float) -> None:
        await asyncio.sleep(wait)
        try:
            await self.ensure()
        except BoxwoodError as error:
            log.error("helper: start it again: %s", error)

    # ---- messages

    async def request(self, name: str, *values: Value, fds: Sequence[int] = ()) -> None:
        """Ask for one thing; the descriptors stay the caller's.

        Raises:
            Unavailable: it is gone.
            DeadlineExceeded: no reply.
            NotFound, AlreadyExists, InvalidArgument, ResourceExhausted: it refused.
        """
        number = self._requests.number()
        data = protocol.encode(name, number, *values)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._requests.add(number, future)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await self._send(data, fds)
                await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"helper: no reply to {name}") from error

    async def count(self) -> dict[str, int]:
        """Its counters (``helper_protocol.COUNTERS``, then ``below_Nms`` and ``slower``)."""
        await self.request("count")
        values = struct.unpack(f"={len(self._counters) // 8}Q", self._counters)
        found = dict(zip(protocol.COUNTERS, values, strict=False))
        buckets = values[len(protocol.COUNTERS) :]
        names = [f"below_{1 << n}ms" for n in range(len(buckets) - 1)]
        return found | dict(zip([*names, "slower"], buckets, strict=True))

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        async with self._sending:
            while True:
                if self._socket is None:
                    raise Unavailable("helper: is gone")
                if send_packet(self._socket, data, fds):
                    return
                await self._writable(self._socket)

    async def _writable(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        free: asyncio.Future[None] = loop.create_future()
        loop.add_writer(connection.fileno(), _settle, free)
        try:
            await free
        finally:
            if connection.fileno() >= 0:
                loop.remove_writer(connection.fileno())

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, protocol.MAX_MESSAGE, _MAX_FDS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            for fd in fds:
                os.set_inheritable(fd, False)
            try:
                self._on_message(protocol.decode(data), fds)
            except ProgramError as error:
                close_all(fds)
                log.error("helper: not a message: %s", error)
                self._lost()

    def _on_message(self, message: Op, fds: list[int]) -> None:
        match message:
            case Op("present", (int(kind), str(owner), str(key), int(inside))):
                self.present[kind, owner, key] = Present(kind, owner, key, inside, fds)
            case Op("ready", (str(build),)):
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(build)
            case Op("counters", (bytes(values),)):
                self._counters = values
            case Op("asked", (str(sandbox), str(name), int(allowed))):
                if self.on_asked is not None:
                    self.on_asked(sandbox, name, bool(allowed))
            case Op("reply", (int(number), int(error), str(operation), str(target))):
                self._requests.settle(number, 0, _error_of(error, operation, target))
            case _:
                raise ProgramError(f"{message.name}: not for us")


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _kill(pid: int) -> None:
    """Kill a helper, and no other process that has its number meanwhile."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        pidfd = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/comm").read_text() == "boxwood-helper\n":
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def _error_of(number: int, operation: str, target: str) -> BoxwoodError | None:
    if not number:
        return None
    kind = _ERRORS.get(number, Internal)
    return kind(f"helper {operation}: {target}: {os.strerror(number).lower()}")


def listen_at(directory: Path, name: str) -> socket.socket:
    """A socket where a program of ours is to be found, in the place of one that nobody is at."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = -1
    try:
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        os.fchmod(listener.fileno(), 0o600)  # before bind: it is the file's mode
        listener.bind(f"/proc/self/fd/{folder}/{name}")
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Unavailable(f"listen: {directory / name}: {error.strerror}") from error
    finally:
        if folder >= 0:
            os.close(folder)
    return listener
