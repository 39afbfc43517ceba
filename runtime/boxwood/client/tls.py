"""TCP connections, plain and under mutual TLS: imported only for `tcp://`."""

from __future__ import annotations

import os
import socket
import ssl

from boxwood.client.address import Address
from boxwood.client.duplex import GONE, Duplex
from boxwood.client.errors import ConnectError

READ_SIZE = 1 << 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


class TlsFiles:
    """The PEM files of a connection. `verify` says whether the peer must prove its name."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str, cert: str, key: str, *, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


def connect_tcp(
    address: Address, tls: TlsFiles | None, timeout: float
) -> _socket.socket | TlsSocket:
    """A connected socket, TLS spoken on it where `tls` is given. Raises ConnectError."""
    from boxwood.client.transport import connect_error

    try:
        sock = socket.create_connection((address.host, address.port), timeout)
    except OSError as error:
        raise connect_error(address, error) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            return _secured(sock, tls, address.host)
        sock.settimeout(None)
    except (OSError, ssl.SSLError) as error:
        sock.close()
        raise ConnectError(address.text, "other", f"TLS: {error}") from error
    return sock


def _secured(sock: socket.socket, tls: TlsFiles, name: str) -> TlsSocket:
    made = TlsSocket(sock, _context(tls), name)
    made.settimeout(None)
    return made


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.verify:
        context.load_verify_locations(tls.ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if os.path.exists(tls.cert) and os.path.exists(tls.key):
        context.load_cert_chain(tls.cert, tls.key)
    return context


class TlsSocket:
    """TLS on a connected socket, through buffers of our own; what a connection needs of a socket.

    Not ``ssl.SSLSocket``: its ``unwrap`` calls OpenSSL's shutdown twice, and the second call reads
    from the socket. Output that comes at that moment is an error to it, and is lost. Here it finds
    nothing to read.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        """Shake hands; raises OSError (and ssl.SSLError, which is one)."""
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._plain = bytearray()
        self._rest = b""
        self._ended = False
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_all()
                self._take()
                continue
            finally:
                self._send_all()
            return

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._sock.fileno()

    def settimeout(self, seconds: float | None) -> None:
        """Seconds that each wait may take."""
        self._sock.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:
        """Whether calls wait."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._sock.close()

    def sendall(self, data: bytes) -> None:
        """Send all, waiting."""
        if data:
            self._tls.write(data)
        self._send_all()

    def send(self, data: memoryview) -> int:
        """Take some of `data` and send what goes now: 0 while what was taken before is not out."""
        self.flush()
        if self.unsent or not data:
            return 0
        count = self._tls.write(data[:READ_SIZE])
        self.flush()
        return count

    def flush(self) -> None:
        """Send what was taken, as much as goes now."""
        self._rest += self._outgoing.read()
        while self._rest:
            try:
                self._rest = self._rest[self._sock.send(self._rest) :]
            except BlockingIOError:
                return

    @property
    def unsent(self) -> bool:
        """Is there something that was taken and is not out yet?"""
        return bool(self._rest) or self._outgoing.pending > 0

    def recv(self, size: int) -> bytes:
        """Return what comes next, at most `size` bytes; empty at the end."""
        while not self._plain and not self._ended:
            self._take()
            self._decrypt()
        data = bytes(self._plain[:size])
        del self._plain[:size]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """Likewise, into a buffer; raises BlockingIOError when nothing is there."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @property
    def buffered(self) -> bool:
        """Whether decrypted bytes wait, or the end."""
        return bool(self._plain) or self._ended

    def close_notify(self) -> None:
        """End our direction (RFC 8446 section 6.1); its answer is not awaited."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # it is in the buffer; the peer's own comes with the end of its output
        self.flush()

    def _send_all(self) -> None:
        self._rest += self._outgoing.read()
        data, self._rest = self._rest, b""
        if data:
            self._sock.sendall(data)

    def _take(self) -> None:
        data = self._sock.recv(READ_SIZE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypt(self) -> None:
        """Decrypt all that is here: a shutdown must find nothing."""
        while True:
            try:
                data = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                data = b""
            if not data:
                self._ended = True
                return
            self._plain += data


class TlsDuplex(Duplex):
    """The same over TLS, where closing one way is a close_notify."""

    _sock: TlsSocket  # type: ignore[assignment]

    def send(self, data: memoryview) -> int | None:
        """Send some of `data`: how much, 0 if nothing goes now, None when the peer has gone."""
        try:
            return self._sock.send(data)
        except (ssl.SSLError, *GONE):
            return None

    def flush(self) -> None:
        """Send what was taken before; who has gone is noticed when reading."""
        try:
            self._sock.flush()
        except GONE:
            return

    @property
    def unsent(self) -> bool:
        """Whether bytes that were taken wait for the socket."""
        return self._sock.unsent

    def half_close(self) -> None:
        """Send close_notify; its answer comes with the end of the output and is not awaited."""
        try:
            self._sock.close_notify()
        except (ssl.SSLError, *GONE):  # the peer has closed already: the next read says so
            return

    @property
    def buffered(self) -> bool:
        """Whether decrypted bytes wait that poll(2) does not see."""
        return self._sock.buffered
