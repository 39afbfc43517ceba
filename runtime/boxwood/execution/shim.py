"""The daemon's side of a shim: start one, find one again, talk to it (``boxwood_ext.protocol``).

Life: :meth:`Shim.spawn` (or :meth:`Shim.adopt` after the daemon came back) → :meth:`start` →
any number of :meth:`attach`, :meth:`exec`, :meth:`resize`, :meth:`signal` → the future of
:meth:`wait` gets the status → :meth:`close`. A shim ends by itself when its container is over and
its clients have all they were sent.

All of it runs on the event loop; nothing here blocks, every reply has a deadline. Who records an
exit does so in a done callback of the future: the shim is acknowledged after those have run, and
only then do clients see the end of their streams.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from boxwood.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LaunchError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from boxwood_ext import launch, protocol
from boxwood_ext.wire import Op, ProgramError, Value

log = logging.getLogger(__name__)

REPLY_TIMEOUT: Final = 10.0
"""Seconds for a reply that needs no container's help."""
LAUNCH_TIMEOUT: Final = 120.0
"""Seconds for a launch: a bind mount's source may be slow, a hung one must end (design 4)."""
SPARE_DELAY: Final = 0.05
"""Seconds until a used spare is replaced: after the start that it sped up."""
SOCKET_BUFFER: Final = 1 << 20
"""Bytes towards the shim: what a burst of attaches with preread bytes takes."""

_ERRORS: Final = {
    "EEXIST": AlreadyExists,
    "ENOENT": NotFound,
    "ESRCH": NotFound,
    "EBUSY": Conflict,
    "EALREADY": Conflict,
    "EINVAL": InvalidArgument,
    "EUSERS": ResourceExhausted,
    "ENOMEM": ResourceExhausted,
    "ENOSPC": ResourceExhausted,
}


class ShimConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a shim has to know of its container. Sizes are bytes."""

    id: str
    directory: Path
    """Where ``shim.sock`` is made (exec-root/containers/ID); exists."""
    exit_file: Path
    """``code signal finished_ns`` comes here; its directory exists and also takes the spill of
    slow clients."""
    log_path: Path | None = None
    log_attributes: dict[str, str] = {}
    """``attrs`` of each log entry (labels, env, tag)."""
    log_max_size: int = 0
    """Rotation starts at this size; 0: none."""
    log_max_files: int = 1
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    size: tuple[int, int] | None = None
    """Of the terminal at first: (rows, columns)."""
    durable: bool = True
    """fdatasync the exit file before the exit is told."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """An attached connection. The descriptor is handed over: never use it again."""

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    framed: bool = False
    """Docker's 8-byte headers (no terminal)."""
    preread: bytes = b""
    """What the daemon had already read of it, at most ``protocol.MAX_PREREAD`` bytes."""
    detach_keys: bytes = b"\x10\x11"
    """At most 16 bytes, only looked for on a terminal; empty: none."""

    @property
    def flags(self) -> int:
        """As the protocol has them."""
        return (
            self.stdin * protocol.CLIENT_STDIN
            | self.stdout * protocol.CLIENT_STDOUT
            | self.stderr * protocol.CLIENT_STDERR
            | self.framed * protocol.CLIENT_FRAMED
        )


class ExitStatus(msgspec.Struct, frozen=True):
    """How a task ended."""

    code: int
    """128 + signal when a signal ended it."""
    signal: int = 0
    finished_at: int = 0
    """Nanoseconds since the epoch."""
    oom: bool = False
    """For who knows (the isolation driver); the shim leaves it False."""


class _Pending(msgspec.Struct):
    """A packet that the socket did not take yet; its descriptors are duplicates of ours."""

    data: bytes
    fds: list[int]


def executable() -> int:
    """The shim's program in a sealed memfd, made once: what a container could reach of it through
    /proc/PID/exe cannot be written (CVE-2019-5736)."""
    global _executable
    if _executable is None:
        data = shim_path().read_bytes()
        fd = os.memfd_create("boxwood-shim", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, data)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        _executable = fd
    return _executable


_executable: int | None = None


def shim_path() -> Path:
    """The program's file; bound read-only on /sbin/docker-init it is the init of ``--init``."""
    return Path(str(resources.files("boxwood_ext") / "bin" / "boxwood-shim"))


def _memfd(program: bytes) -> int:
    fd = os.memfd_create("launch-program", os.MFD_CLOEXEC)
    os.write(fd, program)
    return fd


def read_exit_file(path: Path) -> ExitStatus | None:
    """What a shim wrote there, or None: nothing, or not a status."""
    try:
        code, signal, finished = path.read_text("ascii").split()
        return ExitStatus(int(code), int(signal), int(finished))
    except (OSError, ValueError):
        return None


class _Process(msgspec.Struct):
    """A shim's process and our end of its first connection."""

    pid: int
    pidfd: int
    connection: socket.socket


def _spawn_process() -> _Process:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid, pidfd = launch.spawn_shim(executable(), [theirs.fileno()])
    except OSError as error:
        ours.close()
        raise Unavailable(f"shim: start: {error.strerror}") from error
    finally:
        theirs.close()
    return _Process(pid, pidfd, ours)


class Shim:
    """One shim. Made by :meth:`spawn` or :meth:`adopt`.

    Attributes:
        config: what it was configured with.
        pid: of the container's process, 0 before it runs.
        running: whether that process lives, as far as the shim has said.
        on_detach: called with the exec's name ("": the container) when a client left by its keys.
    """

    _spare: ClassVar[_Process | None] = None
    _keeps_spare: ClassVar[bool] = False

    def __init__(self, config: ShimConfig, connection: socket.socket) -> None:
        self.config = config
        self.pid = 0
        self.execs: dict[str, int] = {}
        """Pid of each exec that runs."""
        self.on_detach: Callable[[str], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._since = time.time_ns()
        self._requests: dict[int, asyncio.Future[int]] = {}
        self._last_request = 0
        self._exits: dict[str, asyncio.Future[ExitStatus]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._outgoing: deque[_Pending] = deque()
        self._socket: socket.socket | None = None
        self._use(connection)

    # ---- making one

    @classmethod
    def prewarm(cls) -> None:
        """Keep one unconfigured shim ready from now on: a start then executes nothing (1 ms less).

        Each that is used is replaced a moment later. :meth:`drop_spare` ends it.
        """
        cls._keeps_spare = True
        if cls._spare is None:
            cls._spare = _spawn_process()

    @classmethod
    def _replace_spare(cls) -> None:
        if cls._keeps_spare and cls._spare is None:
            try:
                cls._spare = _spawn_process()
            except Unavailable as error:
                log.warning("%s: the next start tries again", error)

    @classmethod
    def drop_spare(cls) -> None:
        """Let the spare go (at the daemon's end); it exits when its connection closes."""
        cls._keeps_spare = False
        spare, cls._spare = cls._spare, None
        if spare is not None:
            spare.connection.close()
            os.close(spare.pidfd)

    @classmethod
    async def spawn(cls, config: ShimConfig) -> Shim:
        """Start a shim for a container.

        Raises:
            Unavailable: no process could be made.
            BoxwoodError: the shim refused the configuration (a path that is not there).
        """
        process, cls._spare = cls._spare or _spawn_process(), None
        asyncio.get_running_loop().call_later(SPARE_DELAY, cls._replace_spare)
        process.connection.setblocking(False)
        shim = cls(config, process.connection)
        shim._reap_later(process)
        attributes = msgspec.json.encode(config.log_attributes) if config.log_attributes else b""
        await shim._request(
            "configure",
            config.id,
            str(config.directory),
            str(config.exit_file),
            str(config.log_path or ""),
            attributes,
            config.log_max_size,
            config.log_max_files,
            int(config.tty),
            int(config.open_stdin),
            int(config.stdin_once),
            int(config.durable),
        )
        shim._ready.set_result(None)
        return shim

    @classmethod
    async def adopt(cls, directory: Path) -> Shim | None:
        """Connect to the shim that serves this container's directory, or None: there is none.

        After it ``pid``, ``execs`` and the exit futures tell its present state; of the
        configuration only ``id`` and the paths of directory and exit file are known.

        Raises:
            DeadlineExceeded: there is one, and it does not answer.
        """
        connection = cls._connect(directory)
        if connection is None:
            return None
        shim = cls(ShimConfig(id="", directory=directory, exit_file=directory / "exit"), connection)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                await shim._ready
        except TimeoutError as error:
            await shim.close()
            raise DeadlineExceeded(f"shim: {directory}: said nothing of its state") from error
        return shim

    @staticmethod
    def _connect(directory: Path) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        folder = -1
        try:
            # Through a descriptor: the path may be longer than a socket's address takes.
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            connection.connect(f"/proc/self/fd/{folder}/shim.sock")
        except OSError:
            connection.close()
            return None
        finally:
            if folder >= 0:
                os.close(folder)
        return connection

    def _reap_later(self, process: _Process) -> None:
        """Collect the process when it ends, if this daemon still is its parent."""

        def ended() -> None:
            self._loop.remove_reader(process.pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOHANG)
            os.close(process.pidfd)

        self._loop.add_reader(process.pidfd, ended)

    # ---- what it does

    @property
    def running(self) -> bool:
        """Whether the container's process lives, as far as the shim has said."""
        return self.pid > 0 and not self._exit_of("").done()

    async def start(
        self,
        launch_program: bytes,
        fds: Sequence[int],
        *,
        clients: Sequence[Client] = (),
        timeout: float = LAUNCH_TIMEOUT,
    ) -> int:
        """Launch the container; the clients miss nothing of its output.

        Returns the pid. The descriptors stay the caller's; the clients' are the shim's once this
        returns, and still the caller's when it raises. After an error :meth:`close` is next.

        Raises:
            LaunchError: an operation failed; names it, its object and errno.
            DeadlineExceeded: the launch hung and was killed.
        """
        self.pid = await self._launch("", launch_program, fds, clients, self.config.size, timeout)
        return self.pid

    async def attach(self, client: Client, exec_id: str = "") -> None:
        """Hand a connection over; it gets what comes out from now on.

        Its descriptor is the shim's once this returns, and still the caller's when it raises
        (NotFound: no such task; ResourceExhausted: too many clients; Unavailable).
        """
        await self._bounded(self._attach(client, exec_id), "attach")
        os.close(client.fd)

    async def exec(
        self,
        exec_id: str,
        program: bytes,
        fds: Sequence[int],
        *,
        tty: bool = False,
        size: tuple[int, int] | None = None,
        open_stdin: bool = False,
        clients: Sequence[Client] = (),
        detach: bool = False,
        timeout: float = LAUNCH_TIMEOUT,
    ) -> int:
        """Launch a further process in the container; its pid. ``size``: (rows, columns).

        The clients' descriptors are the shim's once this returns; when it raises they are still
        the caller's, and the exec is forgotten. ``detach``: nobody listens, its output is thrown
        away (as without clients).

        Raises:
            LaunchError, DeadlineExceeded: as :meth:`start`.
            AlreadyExists: a task has this name.
        """
        # Its future is there before its end can be.
        self._exits.pop(exec_id, None)
        self._exit_of(exec_id)
        made = self._post("task", exec_id, int(tty), int(open_stdin))
        try:
            listeners = () if detach else clients
            pid = await self._launch(exec_id, program, fds, listeners, size, timeout, made)
        except BaseException:
            if not isinstance(made.exception() if made.done() else None, AlreadyExists):
                self._post("finish", exec_id, b"")
                self.forget(exec_id)
            raise
        if not self._exit_of(exec_id).done():
            self.execs[exec_id] = pid
        return pid

    async def resize(self, exec_id: str | None, height: int, width: int) -> None:
        """Set the terminal's size in characters; before the launch too."""
        await self._request("resize", exec_id or "", height, width)

    async def signal(self, number: int, exec_id: str | None = None) -> None:
        """Send a signal to the task's process (by pidfd, so never to another).

        Raises:
            NotFound: it does not run.
        """
        await self._request("signal", exec_id or "", number)

    async def kill(self, timeout: float = REPLY_TIMEOUT) -> None:
        """Kill the container's process, if it runs, and wait for its end.

        Raises:
            DeadlineExceeded: it did not end (a process that waits for a disk cannot).
        """
        if self.running:
            with contextlib.suppress(NotFound, Unavailable):
                await self.signal(9)
            done, _ = await asyncio.wait([self.wait()], timeout=timeout)
            if not done:
                raise DeadlineExceeded(f"kill: {self.config.id}: runs on after {timeout:g} s")

    def wait(self) -> asyncio.Future[ExitStatus]:
        """The future of the container's end; Unavailable is set on it when the shim died first.

        Shield it when a waiter may be cancelled."""
        return self._exit_of("")

    def exec_wait(self, exec_id: str) -> asyncio.Future[ExitStatus]:
        """The future of an exec's end, as that of :meth:`wait`."""
        return self._exit_of(exec_id)

    def forget(self, exec_id: str) -> None:
        """Drop what is kept of an ended exec."""
        self._exits.pop(exec_id, None)
        self.execs.pop(exec_id, None)

    async def close(self) -> None:
        """Ask a shim whose container does not run to end, and let go of it. A running one is only
        let go of: it lives on, and can be adopted. Idempotent."""
        if self._socket is None:
            return
        with contextlib.suppress(Conflict, DeadlineExceeded, Unavailable):
            await self._request("quit")
        self._disconnect()

    async def disconnect(self) -> None:
        """Let go of it without a word (the daemon stops, the container lives on)."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._fail_requests()
        for pending in self._outgoing:
            _close_all(pending.fds)
        self._outgoing.clear()

    # ---- launching

    async def _launch(
        self,
        task: str,
        program: bytes,
        fds: Sequence[int],
        clients: Sequence[Client],
        size: tuple[int, int] | None,
        timeout: float,
        made: asyncio.Future[int] | None = None,
    ) -> int:
        """Everything is sent at once; one wait for all."""
        waiting = [made] if made is not None else []
        waiting += [self._attach(client, task) for client in clients]
        if size:
            waiting.append(self._post("resize", task, *size))
        program_fd = _memfd(program)
        try:
            started = self._post("start", task, fds=[program_fd, *fds])
        finally:
            os.close(program_fd)
        try:
            async with asyncio.timeout(timeout):
                results = await asyncio.gather(*waiting, started, return_exceptions=True)
        except TimeoutError as error:
            with contextlib.suppress(NotFound):
                await self.signal(9, task)
            raise DeadlineExceeded(
                f"launch: {self.config.id}: not done in {timeout:g} s, killed"
            ) from error
        for result in results:
            if isinstance(result, BaseException):
                raise result
        for client in clients:
            os.close(client.fd)
        pid = results[-1]
        if not isinstance(pid, int):
            raise Internal(f"launch: {self.config.id}: {pid!r} is no pid")
        return pid

    def _attach(self, client: Client, task: str) -> asyncio.Future[int]:
        keys, preread = client.detach_keys, client.preread
        return self._post("attach", task, client.flags, preread, keys, fds=[client.fd])

    # ---- messages

    async def _request(self, name: str, *values: Value) -> int:
        return await self._bounded(self._post(name, *values), name)

    async def _bounded(self, future: asyncio.Future[int], name: str) -> int:
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"shim: {self.config.id}: no reply to {name} in {REPLY_TIMEOUT:g} s"
            ) from error

    def _post(self, name: str, *values: Value, fds: Sequence[int] = ()) -> asyncio.Future[int]:
        """Send a request; the future has the reply's value."""
        self._last_request += 1
        number = self._last_request
        data = protocol.encode(name, number, *values)
        future: asyncio.Future[int] = self._loop.create_future()
        if self._socket is None:
            future.set_exception(Unavailable(f"shim: {self.config.id}: is gone"))
            return future
        self._requests[number] = future
        self._send(data, fds)
        return future

    def _send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if self._socket is None:
            return
        if not self._outgoing and _send_packet(self._socket, data, fds):
            return
        # Not now: keep duplicates, the caller closes its own.
        self._outgoing.append(_Pending(data, [_duplicate(fd) for fd in fds]))
        self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        while self._socket is not None and self._outgoing:
            pending = self._outgoing[0]
            if not _send_packet(self._socket, pending.data, pending.fds):
                return
            self._outgoing.popleft()
            _close_all(pending.fds)
        if self._socket is not None:
            self._loop.remove_writer(self._socket.fileno())

    def _use(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._loop.add_reader(connection.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(protocol.MAX_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._lost()
                return
            try:
                self._on_message(protocol.decode(data))
            except ProgramError:
                log.exception("shim %s: not a message", self.config.id)
                self._lost()

    def _on_message(self, message: Op) -> None:
        handler = getattr(self, f"_on_{message.name}", None)
        if handler is None:
            raise ProgramError(f"{message.name}: not for us")
        handler(*message.values)

    def _on_reply(self, request: int, error: int, operation: str, target: str, value: int) -> None:
        future = self._requests.pop(request, None)
        if future is None or future.done():
            return
        if error:
            future.set_exception(self._error(error, operation, target))
        else:
            future.set_result(value)

    def _error(self, number: int, operation: str, target: str) -> Exception:
        """LaunchError for an operation of a program, the fitting class for a message."""
        if operation not in protocol.BY_NAME:
            text = f"{operation}: {target}: {os.strerror(number).lower()}"
            return LaunchError(text, operation, target, number)
        import errno

        kind = _ERRORS.get(errno.errorcode.get(number, ""), Internal)
        return kind(f"shim {operation}: {target or self.config.id}: {os.strerror(number).lower()}")

    def _on_exited(self, task: str, code: int, signal: int, finished: int) -> None:
        self.execs.pop(task, None)
        future = self._exit_of(task)
        if not future.done():
            future.set_result(ExitStatus(code, signal, finished))
        # The future's callbacks run in the next turn; those whom they wake in the one after.
        self._loop.call_soon(self._loop.call_soon, self._acknowledge, task)

    def _acknowledge(self, task: str) -> None:
        self._send(protocol.encode("acknowledge", task))

    def _on_detached(self, task: str) -> None:
        if self.on_detach is not None:
            self.on_detach(task)

    def _on_state(
        self, task: str, state: int, pid: int, code: int, signal: int, finished: int
    ) -> None:
        if state == protocol.TASK_EXITED:
            self._on_exited(task, code, signal, finished)
        elif not task:
            self.pid = pid
        elif state == protocol.TASK_RUNNING:
            self.execs[task] = pid

    def _on_ready(self, container: str, exit_file: str) -> None:
        if not self.config.id:
            self.config = ShimConfig(
                id=container, directory=self.config.directory, exit_file=Path(exit_file)
            )
        if not self._ready.done():
            self._ready.set_result(None)

    def _exit_of(self, task: str) -> asyncio.Future[ExitStatus]:
        future = self._exits.get(task)
        if future is None:
            future = self._exits[task] = self._loop.create_future()
        return future

    # ---- when it is gone

    def _fail_requests(self) -> None:
        requests, self._requests = self._requests, {}
        for future in requests.values():
            if not future.done():
                future.set_exception(Unavailable(f"shim: {self.config.id}: is gone"))
                # Not every sender waits for its reply.
                future.exception()

    def _lost(self) -> None:
        """The connection broke: another daemon took over, or, as a rule, the shim has ended."""
        self._disconnect()
        connection = self._connect(self.config.directory)
        if connection is not None:
            self._use(connection)
            return
        for task, future in self._exits.items():
            if future.done():
                continue
            status = None if task else read_exit_file(self.config.exit_file)
            if status is None or status.finished_at < self._since:
                future.set_exception(Unavailable(f"shim: {self.config.id}: ended unexpectedly"))
                future.exception()
            else:
                future.set_result(status)
        if not self._ready.done():
            self._ready.set_exception(Unavailable(f"shim: {self.config.id}: is gone"))
            self._ready.exception()


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _send_packet(connection: socket.socket, data: bytes, fds: Sequence[int]) -> bool:
    """False: the socket takes nothing now. A broken connection is seen by the reader."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        connection.sendmsg([data], rights, socket.MSG_NOSIGNAL)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as error:
        log.debug("shim: send: %s", error)
    return True
