"""Bytes between the user's three streams and a hijacked connection, in one loop of poll(2).

No threads: input and connection are read when they have something, the connection is written
without blocking; writing to the user's stdout blocks on purpose, for that is what slows the
container down to its reader's pace.
"""

from __future__ import annotations

import os
import select

from boxwood.cli.errors import CliError
from boxwood.cli.terminal import EscapeScanner
from boxwood.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.client.duplex import Duplex

# One read: as much as a unix socket holds by default (net.core.rmem_default is 208 KiB).
READ_SIZE = 256 * 1024
# The frame header of the Engine API: type, three zeros, length as 32 bits, big-endian.
HEADER = 8
STDOUT, STDERR, SYSTEM_ERROR = 1, 2, 3
# A daemon's own error text in a stream is a sentence.
MAX_SYSTEM_ERROR = 64 * 1024


class Detached(Exception):
    """The detach keys were typed."""


class Demultiplexer:
    """Splits the 8-byte-framed stream of output; whatever is there is written at once.

    `stdout` and `stderr` are descriptors, None for output that is not wanted.
    """

    def __init__(self, stdout: int | None, stderr: int | None) -> None:
        self._targets = {0: stdout, STDOUT: stdout, STDERR: stderr}
        self._head = b""
        self._left = 0
        self._kind = 0
        self._error = bytearray()

    def feed(self, data: memoryview) -> None:
        """Write what `data` holds. Raises ProtocolError, CliError for the daemon's own error."""
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                at = self._read_header(data, at)
                continue
            take = min(self._left, end - at)
            self._write(data[at : at + take])
            self._left -= take
            at += take
            if not self._left and self._kind == SYSTEM_ERROR:
                text = self._error.decode("utf-8", "replace")
                raise CliError(f"error from daemon in stream: {text}")

    def finish(self) -> None:
        """The stream has ended. Raises ProtocolError when that was inside a frame."""
        if self._head or self._left:
            raise ProtocolError("read: stream: unexpected EOF")

    def _read_header(self, data: memoryview, at: int) -> int:
        take = min(HEADER - len(self._head), len(data) - at)
        self._head += data[at : at + take]
        if len(self._head) == HEADER:
            self._kind = self._head[0]
            self._left = int.from_bytes(self._head[4:], "big")
            if self._kind not in self._targets and self._kind != SYSTEM_ERROR:
                raise ProtocolError(f"Unrecognized input header: {self._kind}")
            if self._kind == SYSTEM_ERROR and self._left > MAX_SYSTEM_ERROR:
                raise ProtocolError("read: stream: error text too long")
            self._head = b""
        return at + take

    def _write(self, data: memoryview) -> None:
        if self._kind == SYSTEM_ERROR:
            self._error += data
        elif (fd := self._targets[self._kind]) is not None:
            write_all(fd, data)


class Verbatim:
    """Writes a stream as it is: a terminal's output is not framed."""

    def __init__(self, stdout: int | None) -> None:
        self._stdout = stdout

    def feed(self, data: memoryview) -> None:
        """Write `data`."""
        if self._stdout is not None:
            write_all(self._stdout, data)

    def finish(self) -> None:
        """The stream has ended."""


class Relay:
    """Carries a hijacked connection until its output ends.

    `stdin` is a descriptor, or None when nothing is sent: then the sending side stays open, as
    the engine takes a closed one for the end of the container's input. At the end of `stdin` the
    sending side is closed and output goes on. `detach_keys` are looked for in `stdin`.
    """

    def __init__(
        self,
        wire: Duplex,
        sink: Demultiplexer | Verbatim,
        *,
        stdin: int | None = None,
        detach_keys: bytes = b"",
    ) -> None:
        self._wire = wire
        self._sink = sink
        self._stdin = stdin
        self._escape = EscapeScanner(detach_keys)
        self._pending = memoryview(b"")

    def run(self) -> None:
        """Returns when the engine has closed the output.

        Raises Detached, ProtocolError, and CliError for an error that the engine put into the
        stream.
        """
        if self._wire.early:
            self._sink.feed(memoryview(self._wire.early))
        buffer = memoryview(bytearray(READ_SIZE))
        while self._turn(buffer):
            pass
        self._sink.finish()

    def _turn(self, buffer: memoryview) -> bool:
        """Wait once and carry what is there; False when the output has ended."""
        ready = self._wait()
        if self._stdin is not None and self._stdin in ready:
            self._read_input(self._stdin)
        if self._pending:
            self._flush()
        elif self._wire.unsent:
            self._wire.flush()
        if self._wire.fileno() not in ready:
            return True
        size = self._wire.receive(buffer)
        if size:
            self._sink.feed(buffer[:size])
        return size != 0

    def _wait(self) -> set[int]:
        """The descriptors to look at. Input is watched only when what was read has been sent."""
        wire = self._wire.fileno()
        poller = select.poll()
        waiting = bool(self._pending) or self._wire.unsent
        poller.register(wire, select.POLLIN | (select.POLLOUT if waiting else 0))
        if self._stdin is not None and not self._pending:
            poller.register(self._stdin, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(0 if self._wire.buffered else None)}
        return ready | {wire} if self._wire.buffered else ready

    def _read_input(self, stdin: int) -> None:
        try:
            data = os.read(stdin, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal has gone, nothing more can be typed
            data = b""
        self._pending = memoryview(self._escape.feed(data))
        if self._escape.found:
            raise Detached
        if not data:
            self._stdin = None
            self._wire.half_close()

    def _flush(self) -> None:
        sent = self._wire.send(self._pending)
        if sent is None:  # the engine reads no more; its output may still be coming
            self._pending = memoryview(b"")
            self._stdin = None
            return
        self._pending = self._pending[sent:]


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`, waiting where the descriptor does not block."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
