"""Taking a connection over: attach and exec get the client's socket itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxwood.api.http.connection import Connection

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE = 42
"""API minor from which the content type tells framed from raw."""

RELAY_BUFFER = 256 * 1024


class SocketUpgrade:
    """The ``Upgrade`` that the containers service is given."""

    def __init__(self, connection: Connection, api_minor: int) -> None:
        self._connection = connection
        self._minor = api_minor
        self.accepted = False

    async def accept(self, content_type: str) -> tuple[int, bytes]:
        """Answer 101 (or 200 to a request without Upgrade) and let go of the socket.

        Args:
            content_type: what the stream is; clients before 1.42 know only the raw one.

        Returns:
            A descriptor that the caller owns, and bytes of the client that were already read.

        Raises:
            ClientGone: the client has closed the connection.
            BadRequest: the body of the request is broken.
        """
        if self._minor < MULTIPLEXED_SINCE:
            content_type = RAW
        if self._connection.wants_upgrade():
            answer = (
                f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
                "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
        else:
            answer = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n"
        taken, preread = await self._connection.hand_over(answer.encode("ascii"))
        self.accepted = True
        return taken.detach(), preread


class TlsRelay:
    """Copies between a TLS connection and one end of a socket pair.

    TLS state can not be handed to another process; so the other end of the pair is. The client's
    close_notify becomes the end of input; the end of output becomes ours.
    """

    def __init__(self, transport: asyncio.Transport, congested: Callable[[], bool]) -> None:
        self._client = transport
        self._congested = congested
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._outgoing = bytearray()
        self._eof = False
        self._reading = False
        self._closed = False

    def far_end(self) -> socket.socket:
        """Return the end to be handed over, once; it is the caller's."""
        self._read(True)
        return self._far

    def expect(self, preread: bytes, eof: bool) -> None:
        """Start with what the client has sent already."""
        if preread:
            self.feed(preread)
        if eof:
            self.feed_eof()

    def feed(self, data: bytes) -> None:
        """Bytes from the client, to the container."""
        if self._closed:
            return
        self._outgoing += data
        self._flush()
        if len(self._outgoing) > RELAY_BUFFER:
            self._client.pause_reading()

    def feed_eof(self) -> None:
        """The client sends no more."""
        self._eof = True
        self._flush()

    def resume(self) -> None:
        """The client reads again."""
        self._read(True)

    def close(self) -> None:
        """Close our end of the pair. Idempotent."""
        if self._closed:
            return
        self._read(False)
        self._closed = True
        self._loop.remove_writer(self._near)
        self._near.close()

    def _read(self, on: bool) -> None:
        if self._closed or on == self._reading:
            return
        self._reading = on
        if on:
            self._loop.add_reader(self._near, self._readable)
        else:
            self._loop.remove_reader(self._near)

    def _readable(self) -> None:
        try:
            data = self._near.recv(RELAY_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._read(False)
            self._client.close()
            return
        self._client.write(data)
        if self._congested():
            self._read(False)

    def _flush(self) -> None:
        if self._closed:
            return
        try:
            while self._outgoing:
                sent = self._near.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            self._loop.add_writer(self._near, self._flush)
            return
        except OSError:
            # The container's side is gone; what comes from there ends the connection.
            self._outgoing.clear()
        self._loop.remove_writer(self._near)
        if not self._client.is_closing():
            self._client.resume_reading()
        if self._eof:
            self._eof = False
            self._near.shutdown(socket.SHUT_WR)
