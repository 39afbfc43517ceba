"""A relay before a server: as fast as the kernel, or with the distance and the width of a line.

Without round trip and rate the bytes never come into this process (splice(2)): more than a GB/s.
What is not simulated: losses, and the slow start of a connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Self

WINDOW = 4 << 20
"""Bytes of one connection and direction in one round trip at most: half as many are on their way.
Linux's receive window grows to 6 MiB (tcp_rmem)."""
PIECE = 64 << 10
"""Bytes that share the line fairly."""
PIPE = 1 << 20


class Pace:
    """One direction of a line, shared by all connections: ``rate`` bytes a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def sent(self, count: int) -> float:
        """Return when the last of so many bytes has been put on the line (monotonic)."""
        now = time.monotonic()
        if not self._rate:
            return now
        with self._lock:
            self._free = max(self._free, now) + count / self._rate
            return self._free


class Relay:
    """``with Relay(("127.0.0.1", 5000), rtt=0.02, rate=10e6).serving() as relay: relay.address``"""

    def __init__(self, upstream: tuple[str, int], *, rtt: float = 0.0, rate: float = 0.0) -> None:
        """Args:
        upstream: host and port of the server.
        rtt: seconds of round-trip time that are added.
        rate: bytes a second in each direction, all connections together; 0: no limit.
        """
        self._upstream, self.rtt, self.rate = upstream, rtt, rate
        self.connections = 0
        self.received = 0
        """Bytes that have come from the server."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._up, self._down = Pace(rate), Pace(rate)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are carried now, counted at both their ends."""
        with self._lock:
            return len(self._open)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Self]:
        """Relay until the end of the block."""
        self._begin(self._accept)
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """End all connections and threads."""
        self._closing.set()
        # A closed listener would let accept(2) wait on.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End all connections, as a line does that breaks."""
        with self._lock:
            for one in self._open:
                end(one)

    def _begin(self, work: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._begin(self._connection, client)

    def _connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), self._held(client):
            if self._closing.wait(self.rtt):  # the handshake
                return
            with socket.create_connection(self._upstream) as server, self._held(server):
                self.serve(client, server)

    @contextlib.contextmanager
    def _held(self, one: socket.socket) -> Iterator[None]:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(one)
        try:
            if not self._closing.is_set():
                yield
        finally:
            with self._lock:
                self._open.discard(one)

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Carry one connection to its end."""
        up = self._begin(self._carry, client, server, self._up, False)
        self._carry(server, client, self._down, True)
        up.join()

    def _carry(self, source: socket.socket, sink: socket.socket, pace: Pace, down: bool) -> None:
        try:
            if self.rtt or self.rate:
                self._slowly(source, sink, pace, down)
            else:
                self._spliced(source, sink, down)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            end(source)
            end(sink)

    def _spliced(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE)
            while count := os.splice(source.fileno(), write_end, PIPE):
                self._count(count, down)
                while count:
                    count -= os.splice(read_end, sink.fileno(), count)
        finally:
            os.close(read_end)
            os.close(write_end)

    def _slowly(self, source: socket.socket, sink: socket.socket, pace: Pace, down: bool) -> None:
        """Read ahead as far as the window allows; a thread of its own lets each piece arrive."""
        line: queue.Queue[tuple[float, bytes]] = queue.Queue(WINDOW // 2 // PIECE)
        arriving = self._begin(self._arrive, line, source, sink)
        try:
            while piece := source.recv(PIECE):
                self._count(len(piece), down)
                line.put((pace.sent(len(piece)) + self.rtt / 2, piece))
        finally:
            line.put((time.monotonic() + self.rtt / 2, b""))
            arriving.join()

    def _arrive(
        self,
        line: queue.Queue[tuple[float, bytes]],
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        gone = False
        while True:
            due, piece = line.get()
            if not piece:
                return
            if gone or self._closing.wait(max(due - time.monotonic(), 0)):
                continue
            try:
                sink.sendall(piece)
            except OSError:
                gone = True
                end(source)

    def _count(self, count: int, down: bool) -> None:
        if down:
            with self._lock:
                self.received += count


def end(one: socket.socket) -> None:
    """Shut a connection down both ways; whoever waits on it wakes up."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
