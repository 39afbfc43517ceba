"""One connection to an engine: HTTP/1.1 as engines speak it, read strictly and bounded."""

from __future__ import annotations

import _socket
import select

from boxwood.client.address import Address
from boxwood.client.duplex import Duplex
from boxwood.client.errors import ConnectError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from boxwood.client.tls import TlsFiles, TlsSocket

# A response head larger than this is not an engine's. (Go's own limit is 1 MiB; ours answer 300
# bytes, a path-stat header at most some KiB.)
MAX_HEAD = 256 * 1024
# A chunk-size line is a few hex digits; extensions are allowed, not long ones.
MAX_CHUNK_LINE = 4 * 1024
# How long the connecting itself may take, in seconds: a unix socket answers at once unless its
# backlog is full, TCP's first retries come after 1, 3 and 7 seconds.
CONNECT_TIMEOUT = 10.0
READ_SIZE = 256 * 1024


class Connection:
    """A connected socket with what has been read ahead from it.

    `spoiled` says that a request was broken off on it: its answer is the last. Reads and writes
    block without a limit unless `timeout` is set: an engine may well be silent for days (`wait`,
    `logs -f`).
    """

    __slots__ = ("address", "buffer", "secure", "sock", "spoiled")

    def __init__(self, address: Address, tls: TlsFiles | None = None) -> None:
        self.address = address
        self.secure = tls is not None
        self.spoiled = False
        self.buffer = bytearray()
        # A TlsSocket has what is used of a socket.
        self.sock: Any = _connect(address, tls)

    def timeout(self, seconds: float | None) -> None:
        """Bound each following read and write; None takes the bound away."""
        self.sock.settimeout(seconds)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`. Raises ProtocolError when the peer has gone."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise ProtocolError(f"send: {self.address.text}: {error.strerror or error}") from error

    def fill(self) -> bool:
        """Read once into the buffer; False at the end of the stream. Raises ProtocolError."""
        try:
            data = self.sock.recv(READ_SIZE)
        except OSError as error:
            raise ProtocolError(f"read: {self.address.text}: {error.strerror or error}") from error
        self.buffer += data
        return bool(data)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers (names in lower case) of the next response.

        Raises ProtocolError, its text `unexpected EOF` when the peer closed before a whole head.
        """
        end = self._find(b"\r\n\r\n", MAX_HEAD)
        head = bytes(self.buffer[:end]).decode("latin-1")
        del self.buffer[: end + 4]
        return parse_head(head)

    def read_exactly(self, size: int) -> Iterator[bytes]:
        """`size` bytes, in pieces as they come. Raises ProtocolError."""
        while size:
            if not self.buffer and not self.fill():
                raise ProtocolError("read: body: unexpected EOF")
            piece = bytes(self.buffer[:size])
            del self.buffer[:size]
            size -= len(piece)
            yield piece

    def read_chunks(self) -> Iterator[bytes]:
        """A chunked body (RFC 9112 section 7.1), trailers skipped. Raises ProtocolError."""
        while size := self._chunk_size():
            yield from self.read_exactly(size)
            if b"".join(self.read_exactly(2)) != b"\r\n":
                raise ProtocolError("read: chunk: no line end after it")
        while self._line():
            pass

    def read_to_end(self) -> Iterator[bytes]:
        """All until the peer closes."""
        while self.buffer or self.fill():
            piece = bytes(self.buffer)
            self.buffer.clear()
            yield piece

    def duplex(self) -> Duplex:
        """The connection as raw bytes both ways, after a hijack."""
        if self.secure:
            from boxwood.client.tls import TlsDuplex

            return TlsDuplex(self)
        return Duplex(self)

    def readable(self) -> bool:
        """Whether a read would return at once, be it with the end of the stream."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Close the socket; idempotent."""
        self.sock.close()

    def _chunk_size(self) -> int:
        line = self._line()
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise ProtocolError(f"read: chunk: bad size {line[:40]!r}")
        return int(digits, 16)

    def _line(self) -> bytes:
        end = self._find(b"\r\n", MAX_CHUNK_LINE)
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    def _find(self, mark: bytes, limit: int) -> int:
        """Where `mark` begins in the buffer, reading until it is there."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark) + 1)
            if start > limit:
                raise ProtocolError(f"read: response: no end of a line in {limit} bytes")
            if not self.fill():
                raise ProtocolError("unexpected EOF")
        return at


def parse_head(head: str) -> tuple[int, dict[str, str]]:
    """Status and headers of a response head without its last empty line. Raises ProtocolError."""
    lines = head.split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
        raise ProtocolError(f"read: response: not HTTP: {lines[0][:60]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(f"read: response: bad header {line[:60]!r}")
        headers[name.lower()] = value.strip()
    return int(code), headers


def request_head(method: str, path: str, host: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of a request's head. Raises ProtocolError for what would split it."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ProtocolError(f"request: {line[:40]!r}: line break inside")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def _connect(address: Address, tls: TlsFiles | None) -> _socket.socket | TlsSocket:
    if address.scheme == "unix":
        return _connect_unix(address)
    if address.scheme == "ssh":
        from boxwood.client import ssh

        try:
            return ssh.connect(address)
        except OSError as error:
            raise connect_error(address, error) from error
    from boxwood.client.tls import connect_tcp

    return connect_tcp(address, tls, CONNECT_TIMEOUT)


def _connect_unix(address: Address) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(address.path)
        sock.settimeout(None)
    except OSError as error:
        sock.close()
        raise connect_error(address, error) from error
    return sock


def connect_error(address: Address, error: OSError) -> ConnectError:
    """The ConnectError for what the system answered to connect(2)."""
    import errno
    import os

    reasons = {
        errno.ENOENT: "missing",
        errno.EACCES: "permission",
        errno.EPERM: "permission",
        errno.EAGAIN: "timeout",
        errno.ETIMEDOUT: "timeout",
    }
    reason = reasons.get(error.errno or 0, "other")
    if isinstance(error, TimeoutError):
        reason = "timeout"
    if error.errno in (errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE):
        regular = address.scheme == "unix" and not _is_socket(address.path)
        reason = "not-a-socket" if regular else "missing"
    detail = error.strerror or os.strerror(error.errno or 0) if error.errno else str(error)
    return ConnectError(address.text, reason, detail)


def _is_socket(path: str) -> bool:
    import os
    import stat

    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # gone in between: then it is missing, not something else
