"""TLS that keeps half-close.

asyncio's own TLS ends both directions when the peer says that it will send no more. Docker's
client says so at once when it attaches without input, and would lose all output.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

log = logging.getLogger("boxwood.api")

HANDSHAKE_TIMEOUT = 10.0
"""Seconds; a client that stalls in the handshake holds nothing but its socket."""
REFUSAL_TIMEOUT = 2.0
"""Seconds that a client whose handshake failed has to read why."""
READ_SIZE = 256 * 1024


class TlsTransport(asyncio.Transport):
    """The transport that a protocol above TLS sees."""

    def __init__(
        self, raw: asyncio.Transport, tls: ssl.SSLObject, flush: Callable[[], None]
    ) -> None:
        super().__init__()
        self._raw = raw
        self._tls = tls
        self._flush = flush
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        if name == "peercert":
            return self._tls.getpeercert()
        return self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            log.debug("tls: write: %s", error)
            self.abort()
            return
        self._flush()

    def close(self) -> None:
        """Say that nothing more comes, send what is buffered, close."""
        if self._closing:
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it wants the peer's farewell too, for which nobody waits
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()


class TlsLayer(asyncio.Protocol):
    """Speaks TLS as a server on a plain connection; ``above`` sees the plain text."""

    def __init__(self, context: ssl.SSLContext, above: asyncio.Protocol) -> None:
        self._above = above
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._raw: asyncio.Transport | None = None
        self._ready = False
        self._refused = False
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        self._start_timer(HANDSHAKE_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._incoming.write(data)
        try:
            if self._ready or self._shake_hands():
                self._read()
        except ssl.SSLError as error:
            self._refuse(error)
            return
        self._flush()

    def eof_received(self) -> bool:
        """The peer closed the connection itself; said or not, nobody reads any more."""
        if self._raw is not None and not self._refused:
            self._raw.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._ready:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._ready:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._ready:
            self._above.resume_writing()

    def _shake_hands(self) -> bool:
        assert self._raw is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._stop_timer()
        self._flush()
        self._ready = True
        self._above.connection_made(TlsTransport(self._raw, self._tls, self._flush))
        return True

    def _read(self) -> None:
        while not self._ended:
            try:
                data = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                self._above.data_received(data)
                continue
            self._ended = True
            if not self._above.eof_received() and self._raw is not None:
                self._raw.close()

    def _flush(self) -> None:
        if self._raw is not None and self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _refuse(self, error: ssl.SSLError) -> None:
        """Let the client read the alert: closing over unread bytes would reset the connection."""
        assert self._raw is not None
        log.info("tls: %s: %s", self._raw.get_extra_info("peername"), error.reason or error)
        if self._ready:
            self._raw.abort()
            return
        self._refused = True
        self._flush()
        if self._raw.can_write_eof():
            self._raw.write_eof()
        self._start_timer(REFUSAL_TIMEOUT)

    def _start_timer(self, delay: float) -> None:
        self._stop_timer()
        assert self._raw is not None
        self._timer = asyncio.get_running_loop().call_later(delay, self._raw.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
