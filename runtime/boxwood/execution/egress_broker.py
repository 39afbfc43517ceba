"""The egress broker's process: started when it is first needed, spoken to, replaced when it is old.

It is ``ext/c/broker``: it opens the packet filter for answers to names, and outlives the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from boxwood.errors import Unavailable
from boxwood.execution.helper import listen_at
from boxwood.execution.name_rules import NETLINK_NETFILTER
from boxwood.execution.shim_packets import send_packet
from boxwood.execution.shim_process import connect, seal
from boxwood_ext import broker_protocol as protocol
from boxwood_ext import launch
from boxwood_ext.wire import Op, ProgramError, Value

log = logging.getLogger(__name__)

SOCKET: Final = "broker.sock"
TIMEOUT: Final = 10.0


class Broker:
    """The connection to the broker, which is started when it is first needed."""

    def __init__(self, directory: Path, table: str) -> None:
        self._directory, self._table = directory, table
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._number = 0
        self._pidfd = -1
        self._build = ""
        self.pid = 0
        self.on_end: Callable[[], None] = _nothing
        """Called when the process that is spoken to has ended."""

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def open(self, *, spawn: bool) -> bool:
        """Connect, to a new one if need be and ``spawn`` says so. True: to a new one.

        Raises:
            Unavailable: it cannot be started, or does not answer.
        """
        self.close()
        connection = connect(self._directory, SOCKET)
        if connection is not None and await self._greeted(connection):
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.pid = struct.unpack("iII", credentials)[0]
            if self._build == _executable()[1] or not spawn:
                self._watch()
                return False
            await self._replace()
        # None, or one that was just about to end, or another release's.
        if not spawn:
            return False
        if not await self._greeted(self._spawn()):
            raise Unavailable("egress broker: does not answer")
        self._watch()
        return True

    async def _replace(self) -> None:
        """End a broker of another build: a new one is told the same. What is open stays open."""
        log.info("egress: the broker is of build %s: it is replaced", self._build)
        self.close()
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            if not (await asyncio.to_thread(select.select, [process], [], [], TIMEOUT))[0]:
                raise Unavailable("egress broker: an old one does not end")
            _reap(process)
        finally:
            os.close(process)

    async def _greeted(self, connection: socket.socket) -> bool:
        """Use a connection, if the broker at its end says that it is there."""
        connection.setblocking(False)
        self._socket = connection
        try:
            said = await self._receive()
            if said.name == "ready":
                self._build = str(said.values[0])
                return True
        except Unavailable as error:
            log.info("%s", error)
        self.close()
        return False

    def _watch(self) -> None:
        """Hear of its end; it is our child, or was another daemon's."""
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(self.pid)
            asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        _reap(self._pidfd)
        self.close()
        self.on_end()

    def _spawn(self) -> socket.socket:
        executable, build = _executable()
        listener = listen_at(self._directory, SOCKET)
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            args = (b"boxwood-broker", build.encode(), self._table.encode())
            fds = [listener.fileno(), netlink.fileno()]
            self.pid, pidfd = launch.spawn_shim(executable, fds, args)
            os.close(pidfd)
        except OSError as error:
            raise Unavailable(f"egress broker: start: {error.strerror}") from error
        finally:
            listener.close()
            netlink.close()
        connection = connect(self._directory, SOCKET)
        if connection is None:
            raise Unavailable("egress broker: it ended at once")
        return connection

    async def request(self, name: str, *values: Value, fds: Iterable[int] = ()) -> None:
        """Ask for one thing.

        Raises:
            Unavailable: it is gone, or refuses.
        """
        async with self._lock:
            self._number += 1
            if self._socket is None:
                raise Unavailable("egress broker: is gone")
            data = protocol.encode(name, self._number, *values)
            if not send_packet(self._socket, data, list(fds)):
                raise Unavailable("egress broker: does not read")
            error = (await self._receive()).values[1]
        if error:
            raise Unavailable(f"egress broker: {name}: {os.strerror(int(str(error))).lower()}")

    async def _receive(self) -> Op:
        connection = self._socket
        if connection is None:
            raise Unavailable("egress broker: is gone")
        try:
            async with asyncio.timeout(TIMEOUT):
                loop = asyncio.get_running_loop()
                data = await loop.sock_recv(connection, protocol.MAX_MESSAGE)
            return protocol.decode(data)
        except (OSError, TimeoutError, ProgramError) as error:
            self.close()
            raise Unavailable(f"egress broker: does not answer: {error}") from error

    def close(self) -> None:
        """Let go of it; with a policy it goes on. Idempotent."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _reap(pidfd: int) -> None:
    with contextlib.suppress(ChildProcessError):  # it was another daemon's
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


@cache
def _executable() -> tuple[int, str]:
    path = Path(str(resources.files("boxwood_ext") / "bin" / "boxwood-broker"))
    return seal(path), hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _nothing() -> None:
    """Nobody wants to hear of it."""
