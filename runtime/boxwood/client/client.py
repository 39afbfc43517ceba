"""The Engine API as a client sees it: requests, JSON, streams, hijacked connections."""

from __future__ import annotations

from boxwood.client import jsonwire
from boxwood.client.address import Address
from boxwood.client.errors import ApiError, ProtocolError
from boxwood.client.transport import Connection, request_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from boxwood.client.tls import TlsFiles

    Query = Mapping[str, "str | int | bool | list[str] | None"]

# An error's text is a sentence; what is longer is cut off rather than kept.
MAX_ERROR_BODY = 1024 * 1024
# RFC 3986 section 2.3, plus what is safe in a path and what Docker's routes take literally.
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_SAFE = _UNRESERVED | frozenset(b"/:@")


class Response:
    """An answer whose body has not been read yet.

    The connection goes back to its client when the body has been read to its end, and is closed
    by `close` otherwise.
    """

    __slots__ = ("_body", "_client", "connection", "headers", "status")

    def __init__(self, client: Client, connection: Connection, method: str) -> None:
        self._client = client
        self.connection = connection
        try:
            self.status, self.headers = connection.read_head()
            self._body = self._open_body(method)
        except ProtocolError:
            connection.close()
            raise
        client.api_version = self.headers.get("api-version", client.api_version)

    def _open_body(self, method: str) -> Iterator[bytes]:
        headers = self.headers
        if self.status in (101, 204, 304) or method == "HEAD":
            return iter(())
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self.connection.read_chunks()
        length = headers.get("content-length")
        if length is None:
            return self.connection.read_to_end()
        if not (length.isascii() and length.isdigit()):
            raise ProtocolError(f"read: response: bad Content-Length {length[:40]!r}")
        return self.connection.read_exactly(int(length))

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises ProtocolError, the connection closed."""
        try:
            yield from self._body
        except ProtocolError:
            self.close()
            raise
        self._client.release(self)

    def read(self, limit: int | None = None) -> bytes:
        """The whole body; what is beyond `limit` bytes is left unread and the connection closed."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if limit is not None and len(body) > limit:
                self.close()
                break
        return bytes(body)

    def json(self) -> Any:
        """The body's value; None when it is empty. Raises ProtocolError."""
        body = self.read()
        return _decode(body) if body.strip() else None

    def lines(self) -> Iterator[Any]:
        """The values of a stream of JSON documents, one a line. Raises ProtocolError."""
        rest = bytearray()
        for piece in self.pieces():
            rest += piece
            if b"\n" not in piece:
                continue
            *whole, last = rest.split(b"\n")
            rest = bytearray(last)
            yield from (_decode(bytes(line)) for line in whole if line.strip())
        if rest.strip():
            yield _decode(bytes(rest))

    def close(self) -> None:
        """Give the connection up."""
        self.connection.close()


class Client:
    """Speaks to one engine. Not for use by several threads at once.

    Keeps one idle connection and uses it for the next request. Requests carry no API version
    unless one is pinned: an engine then answers in the newest it speaks, which saves the round
    trip of a negotiation; `api_version` is what the last answer said.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: TlsFiles | None = None,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
        agent: str = "Boxwood-Client",
    ) -> None:
        self.address = address
        self.api_version: str | None = None
        self._tls = tls
        self._base = address.prefix + (f"/v{version.removeprefix('v')}" if version else "")
        # Docker's clients send this host over a unix socket; Go servers insist on some host.
        self._host = (
            "docker" if address.scheme in ("unix", "ssh") else f"{address.host}:{address.port}"
        )
        self._headers = [("User-Agent", agent), *(headers or {}).items()]
        self._idle: Connection | None = None

    def connect(self) -> None:
        """Make a connection now, so that a missing engine shows. Raises ConnectError."""
        if self._idle is None:
            self._idle = Connection(self.address, self._tls)

    def dial(self) -> Connection:
        """A connection that nothing was asked over; it is the caller's. Raises ConnectError."""
        self.connect()
        connection, self._idle = self._idle, None
        assert connection is not None
        return connection

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        data: Iterable[bytes] | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Connection:
        """Send a request and leave its answer unread: `receive` takes it.

        `body` is sent as JSON, `data` as a chunked stream. Raises ConnectError, ProtocolError.
        """
        content = jsonwire.dumps(body) if body is not None else b""
        head = [*self._headers, *headers]
        if data is not None:
            head += [("Transfer-Encoding", "chunked")]
            head += [] if _has(head, "content-type") else [("Content-Type", "application/x-tar")]
        elif body is not None:
            head += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        elif method in ("POST", "PUT"):
            head += [("Content-Length", "0")]
        target = self._base + path + encode_query(query)
        first = request_head(method, target, self._host, head) + content
        connection = self._send_first(first)
        if data is not None:
            try:
                _send_chunks(connection, data)
            except BaseException:  # half a request is none: also when reading `data` failed
                connection.close()
                raise
        return connection

    def receive(self, connection: Connection, method: str = "POST") -> Response:
        """The answer to `send`. Raises ApiError for an error status, ProtocolError."""
        response = Response(self, connection, method)
        if response.status >= 400:
            raise ApiError(response.status, _error_text(response))
        return response

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        data: Iterable[bytes] | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Send a request and read the head of its answer.

        Raises ConnectError, ProtocolError, and ApiError for a status of 400 and more.
        """
        connection = self.send(method, path, query=query, body=body, data=data, headers=headers)
        return self.receive(connection, method)

    def get(self, path: str, query: Query | None = None) -> Any:
        """The JSON value of a GET. Raises as `request` does."""
        return self.request("GET", path, query=query).json()

    def post(self, path: str, query: Query | None = None, body: Any = None) -> Any:
        """The JSON value that a POST answers, or None. Raises as `request` does."""
        return self.request("POST", path, query=query, body=body).json()

    def delete(self, path: str, query: Query | None = None) -> Any:
        """The JSON value that a DELETE answers, or None. Raises as `request` does."""
        return self.request("DELETE", path, query=query).json()

    def send_hijack(self, path: str, query: Query | None = None, body: Any = None) -> Connection:
        """Ask for a connection of raw bytes (attach, exec start): `receive_hijack` takes it."""
        upgrade = (("Connection", "Upgrade"), ("Upgrade", "tcp"))
        return self.send("POST", path, query=query, body=body, headers=upgrade)

    def receive_hijack(self, connection: Connection) -> Response:
        """The head of the answer to `send_hijack`.

        The connection is the caller's then: its `buffer` holds what came with the head, and
        nothing of it goes back to this client. Raises ApiError, ProtocolError.
        """
        response = self.receive(connection)
        if response.status not in (101, 200):
            response.close()
            raise ProtocolError(f"hijack: unexpected status {response.status}")
        return response

    def release(self, response: Response) -> None:
        """Take a connection back whose answer has been read whole."""
        asked = response.headers.get("connection", "").lower()
        framed = "content-length" in response.headers or "transfer-encoding" in response.headers
        whole = framed or response.status in (204, 304)
        usable = whole and asked != "close" and not response.connection.spoiled
        if self._idle is None and usable:
            self._idle = response.connection
        else:
            response.connection.close()

    def close(self) -> None:
        """Close the idle connection."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _send_first(self, first: bytes) -> Connection:
        """Send over the idle connection, or over a new one when that has been closed.

        Only a failed send is tried again: nothing of the request can have been acted on.
        """
        connection, self._idle = self._idle, None
        if connection is not None and connection.readable():
            connection.close()  # an idle connection that is readable has been closed
        elif connection is not None:
            try:
                connection.send(first)
            except ProtocolError:
                connection.close()
            else:
                return connection
        connection = Connection(self.address, self._tls)
        try:
            connection.send(first)
        except ProtocolError:
            connection.close()
            raise
        return connection


def quote(text: str) -> str:
    """`text` as one or more segments of a path (slashes stay: `library/busybox`)."""
    return _percent(text, _PATH_SAFE)


def encode_query(query: Query | None) -> str:
    """`?a=1&b=x`, or nothing; None is left out, a bool is 1 or 0, a list is repeated."""
    pairs: list[str] = []
    for name, value in (query or {}).items():
        values = value if isinstance(value, list) else [value]
        pairs += [f"{name}={_percent(_plain(item), _UNRESERVED)}" for item in values
                  if item is not None]  # fmt: skip
    return "?" + "&".join(pairs) if pairs else ""


def _plain(value: str | int | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _percent(text: str, safe: frozenset[int]) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return "".join([chr(byte) if byte in safe else f"%{byte:02X}" for byte in raw])


def _has(headers: list[tuple[str, str]], name: str) -> bool:
    return any(key.lower() == name for key, _ in headers)


def _send_chunks(connection: Connection, data: Iterable[bytes]) -> None:
    """Send a chunked body; a peer that answers early and stops reading ends it.

    The answer it has given is read next and says why, which a broken pipe would not.
    """
    try:
        for piece in data:
            if piece:
                connection.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        connection.send(b"0\r\n\r\n")
    except ProtocolError:
        connection.spoiled = True
        if not _answered(connection):
            raise


def _answered(connection: Connection) -> bool:
    try:
        return connection.fill()
    except ProtocolError:
        return False


def _decode(data: bytes) -> Any:
    try:
        return jsonwire.loads(data)
    except ValueError as error:
        raise ProtocolError(f"read: response: not JSON: {error}") from error


def _error_text(response: Response) -> str:
    body = response.read(MAX_ERROR_BODY)
    if response.headers.get("content-type", "").startswith("application/json"):
        value = _decode(body) if body.strip() else {}
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return str(value["message"])
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace").strip()
    return text or f"request returned status {response.status} and no message"
