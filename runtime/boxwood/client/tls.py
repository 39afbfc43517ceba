"""TCP connections, plain and under mutual TLS: imported only for `tcp://`."""

from __future__ import annotations

import os
import socket
import ssl

from boxwood.client.address import Address
from boxwood.client.duplex import Duplex
from boxwood.client.errors import ConnectError

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


def connect_tcp(address: Address, tls: TlsFiles | None, timeout: float) -> _socket.socket:
    """A connected socket, TLS spoken on it where `tls` is given. Raises ConnectError."""
    from boxwood.client.transport import connect_error

    try:
        sock = socket.create_connection((address.host, address.port), timeout)
    except OSError as error:
        raise connect_error(address, error) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = _context(tls).wrap_socket(sock, server_hostname=address.host)
        sock.settimeout(None)
    except (OSError, ssl.SSLError) as error:
        sock.close()
        raise ConnectError(address.text, "other", f"TLS: {error}") from error
    return sock


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


class TlsDuplex(Duplex):
    """The same over TLS, where closing one way is a close_notify (RFC 8446 section 6.1)."""

    _sock: ssl.SSLSocket

    def receive(self, buffer: memoryview) -> int | None:
        """Read into `buffer`: the size, 0 at the end of the stream, None if nothing is there."""
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError):
            return 0

    def send(self, data: memoryview) -> int | None:
        """Send some of `data`: how much, 0 if nothing goes now, None when the peer has gone."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError, ConnectionResetError):
            return None

    def half_close(self) -> None:
        """Send close_notify; its answer comes with the end of the output and is not awaited."""
        try:
            self._sock.unwrap()
        except OSError:  # SSLWantReadError: sent, not answered yet
            return

    @property
    def buffered(self) -> bool:
        """Whether OpenSSL holds decrypted bytes."""
        return self._sock.pending() > 0
