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

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from boxwood.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Internal,
    LaunchError,
    NotFound,
    Unavailable,
)
from boxwood.execution.shim_packets import (
    Packet,
    close_all,
    duplicate,
    error_of,
    program_fd_of,
    send_packet,
)
from boxwood.execution.shim_process import ShimProcess, connect, executable, shim_path
from boxwood.execution.shim_requests import Requests
from boxwood.execution.shim_spare import Spare
from boxwood.execution.shim_values import Client, ExitStatus, Held, ShimConfig, read_exit_file
from boxwood_ext import protocol
from boxwood_ext.wire import Op, ProgramError, Value

__all__ = [
    "Client",
    "ExitStatus",
    "Held",
    "Shim",
    "ShimConfig",
    "executable",
    "read_exit_file",
    "shim_path",
]

log = logging.getLogger(__name__)

REPLY_TIMEOUT: Final = 10.0
"""Seconds for a reply that needs no container's help."""
LAUNCH_TIMEOUT: Final = 120.0
"""Seconds for a launch: a bind mount's source may be slow, a hung one must end (design 4)."""
RECONNECTS: Final = 5
"""Tries to get back to a shim that hung up: it does so when we do not read what it says."""
SOCKET_BUFFER: Final = 1 << 20
"""Bytes towards the shim: what a burst of attaches with preread bytes takes."""


class Shim:
    """One shim. Made by :meth:`spawn` or :meth:`adopt`.

    Attributes:
        config: what it was configured with.
        pid: of the container's process, 0 before it runs.
        running: whether that process lives, as far as the shim has said.
        on_detach: called with the exec's name ("": the container) when a client left by its keys.
    """

    _spare: ClassVar[Spare] = Spare()

    def __init__(self, config: ShimConfig, connection: socket.socket) -> None:
        self.config = config
        self.pid = 0
        self.execs: dict[str, int] = {}
        """Pid of each exec that runs."""
        self.on_detach: Callable[[str], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._since = time.time_ns()
        self._reconnects = 0
        self._launching: set[str] = set()
        self._requests = Requests()
        self._exits: dict[str, asyncio.Future[ExitStatus]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._outgoing: deque[Packet] = deque()
        self._socket: socket.socket | None = None
        self._use(connection)

    # ---- making one

    @classmethod
    def prewarm(cls) -> None:
        """Keep one unconfigured shim ready from now on: a start then executes nothing (1 ms less).

        Each that is used is replaced. :meth:`drop_spare` ends it."""
        cls._spare.keep()

    @classmethod
    def drop_spare(cls) -> None:
        """Let the spare go (at the daemon's end); it exits when its connection closes."""
        cls._spare.drop()

    @classmethod
    async def spawn(cls, config: ShimConfig) -> Shim:
        """Start a shim for a container.

        Raises:
            Unavailable: no process could be made.
            BoxwoodError: the shim refused the configuration (a path that is not there).
        """
        process = cls._spare.take()
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
            Unavailable: it cannot be reached (out of descriptors, no permission).
        """
        connection = await cls._connect(directory)
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
    async def _connect(directory: Path) -> socket.socket | None:
        """Wait for a shim whose queue of connections is full, but not for ever."""
        deadline = time.monotonic() + REPLY_TIMEOUT
        while True:
            try:
                return connect(directory)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(f"shim: {directory}: takes no connection") from error
            await asyncio.sleep(0.01)

    def _reap_later(self, process: ShimProcess) -> None:
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

    async def attach_held(self, client: Client) -> Held:
        """Hand a connection over as :meth:`attach`, but it gets nothing before it is released.

        The shim has a duplicate: the descriptor stays the caller's, who writes to it what the log
        has. Raises as :meth:`attach`.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        flags = client.flags | protocol.CLIENT_HELD
        keys, preread = client.detach_keys, client.preread
        try:
            reply = self._post("attach", "", flags, preread, keys, fds=[client.fd, reading])
            return Held(await self._bounded(reply, "attach"), writing)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)

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

    async def interrupt(self, exec_id: str = "") -> None:
        """End a launch that hangs, in a file system say: :meth:`start` or :meth:`exec` raises a
        LaunchError that names the operation and the object it hung in. Nothing happens to a task
        that is not being launched, or is gone."""
        with contextlib.suppress(NotFound, Unavailable):
            await self.signal(9, exec_id)

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
        reply = self._post("quit")
        # One whose container is over needs no asking, only the word that it may go.
        if self._outgoing or not self._exit_of("").done():
            with contextlib.suppress(Conflict, DeadlineExceeded, Unavailable):
                await self._bounded(reply, "quit")
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
        self._requests.fail_all(f"shim: {self.config.id}: is gone")
        for pending in self._outgoing:
            close_all(pending.fds)
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
        """An end that comes before the launch returned is acknowledged only after that: the caller
        could not have asked for it yet."""
        self._launching.add(task)
        try:
            return await self._launch_all(task, program, fds, clients, size, timeout, made)
        finally:
            self._launching.discard(task)
            if self._exit_of(task).done():
                self._acknowledge_soon(task)

    async def _launch_all(
        self,
        task: str,
        program: bytes,
        fds: Sequence[int],
        clients: Sequence[Client],
        size: tuple[int, int] | None,
        timeout: float,
        made: asyncio.Future[int] | None,
    ) -> int:
        """Everything is sent at once; one wait for all."""
        waiting = [made] if made is not None else []
        waiting += [self._attach(client, task) for client in clients]
        if size:
            waiting.append(self._post("resize", task, *size))
        program_fd = program_fd_of(program)
        try:
            started = self._post("start", task, fds=[program_fd, *fds])
        finally:
            os.close(program_fd)
        everything = asyncio.gather(*waiting, started, return_exceptions=True)
        done, _ = await asyncio.wait([everything], timeout=timeout)
        late = not done
        if late:
            await self.interrupt(task)
            await asyncio.wait([everything], timeout=REPLY_TIMEOUT)
        if not everything.done():
            everything.cancel()
            raise DeadlineExceeded(f"launch: {self.config.id}: not done in {timeout:g} s")
        results = everything.result()
        for result in results:
            if late and isinstance(result, LaunchError):
                raise DeadlineExceeded(
                    f"launch: {self.config.id}: {result.operation}: {result.target}: not done in "
                    f"{timeout:g} s"
                ) from result
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
        number = self._requests.number()
        data = protocol.encode(name, number, *values)
        future: asyncio.Future[int] = self._loop.create_future()
        if self._socket is None:
            future.set_exception(Unavailable(f"shim: {self.config.id}: is gone"))
            return future
        self._requests.add(number, future)
        self._send(data, fds)
        return future

    def _send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if self._socket is None:
            return
        if not self._outgoing and send_packet(self._socket, data, fds):
            return
        # Not now: keep duplicates, the caller closes its own.
        self._outgoing.append(Packet(data, [duplicate(fd) for fd in fds]))
        self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        while self._socket is not None and self._outgoing:
            pending = self._outgoing[0]
            if not send_packet(self._socket, pending.data, pending.fds):
                return
            self._outgoing.popleft()
            close_all(pending.fds)
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
        refusal = error_of(self.config.id, error, operation, target) if error else None
        self._requests.settle(request, value, refusal)

    def _on_exited(self, task: str, code: int, signal: int, finished: int) -> None:
        self.execs.pop(task, None)
        future = self._exit_of(task)
        if not future.done():
            future.set_result(ExitStatus(code, signal, finished))
        if task not in self._launching:
            self._acknowledge_soon(task)

    def _acknowledge_soon(self, task: str) -> None:
        """The future's callbacks, and whom they wake, run in the next turn; the send after it."""
        self._loop.call_soon(self._acknowledge_next, task)

    def _acknowledge_next(self, task: str) -> None:
        self._loop.call_soon(self._send, protocol.encode("acknowledge", task))

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

    def _lost(self) -> None:
        """The connection broke: as a rule the shim has ended; else one more is tried."""
        self._disconnect()
        connection = None
        if self._reconnects < RECONNECTS:
            self._reconnects += 1
            try:
                connection = connect(self.config.directory)
            except BlockingIOError:
                self._loop.call_later(0.1, self._lost)
                return
            except Unavailable as error:
                log.error("%s", error)
        if connection is not None:
            self._use(connection)
            return
        for task, future in self._exits.items():
            if not future.done():
                self._settle(task, future)
        if not self._ready.done():
            self._ready.set_exception(Unavailable(f"shim: {self.config.id}: is gone"))
            self._ready.exception()

    def _settle(self, task: str, future: asyncio.Future[ExitStatus]) -> None:
        """What is known of a task whose shim is gone: the exit file, or nothing."""
        status = None if task else read_exit_file(self.config.exit_file)
        if status is not None and status.finished_at >= self._since:
            future.set_result(status)
            return
        future.set_exception(Unavailable(f"shim: {self.config.id}: ended unexpectedly"))
        future.exception()  # not everybody waits for it
