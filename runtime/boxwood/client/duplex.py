"""A hijacked connection: raw bytes both ways, each way closed on its own, nothing that blocks."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.client.transport import Connection

# What ends a read or a write on a socket whose peer has gone.
GONE = (BrokenPipeError, ConnectionResetError)


class Duplex:
    """The socket of a hijacked connection, without blocking, with what was read ahead of it."""

    def __init__(self, connection: Connection) -> None:
        self._sock: _socket.socket = connection.sock
        self.early = bytes(connection.buffer)
        connection.buffer.clear()
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._sock.fileno()

    def receive(self, buffer: memoryview) -> int | None:
        """Read into `buffer`: the size, 0 at the end of the stream, None if nothing is there."""
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except GONE:
            return 0

    def send(self, data: memoryview) -> int | None:
        """Send some of `data`: how much, 0 if nothing goes now, None when the peer has gone."""
        try:
            return self._sock.send(data, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except GONE:
            return None

    def flush(self) -> None:
        """Send what `send` has taken and could not send."""

    @property
    def unsent(self) -> bool:
        """Whether there is such a thing."""
        return False

    def half_close(self) -> None:
        """Nothing more will be sent; what comes is still read."""
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the peer has closed already: the next read says so
            return

    @property
    def buffered(self) -> bool:
        """Whether bytes wait that poll(2) does not see."""
        return False
