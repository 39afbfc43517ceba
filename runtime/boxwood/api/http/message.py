"""Requests and responses as the routes see them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from boxwood.api.http.body import Body
    from boxwood.api.http.upgrade import SocketUpgrade

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_REASONS = {int(status): status.phrase for status in HTTPStatus}


class ClientGone(Exception):
    """The client closed its connection: nobody reads what would be written."""


class BadRequest(Exception):
    """The bytes of the client are not HTTP as we accept it; the connection ends after this.

    Attributes:
        status: 400, 408, 413, 414, 417, 431 or 505.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Peer(NamedTuple):
    """Who is at the other end: kernel credentials of a unix socket, or an address."""

    kind: str
    """``unix``, ``tcp`` or ``tls``."""
    pid: int = 0
    uid: int = -1
    gid: int = -1
    address: str = ""
    common_name: str = ""
    """Subject of the client's certificate (TLS)."""


class Response(NamedTuple):
    """A whole answer, small enough for memory."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Head(NamedTuple):
    """The parsed head of one request."""

    method: str
    target: bytes
    headers: dict[str, str]
    """Lower-case names; values of a repeated header joined by ``, ``."""
    keep_alive: bool
    chunked: bool
    length: int
    http10: bool


class Stream(Protocol):
    """A response whose body is written piece by piece; each piece is sent at once."""

    def send(self, data: bytes) -> None:
        """Send ``data`` without waiting for the client: for few and short messages."""

    async def write(self, data: bytes) -> None:
        """Send ``data``; waits while the client reads too slowly. Raises ClientGone."""


class Exchange(Protocol):
    """What a connection offers to the request that it serves at the moment."""

    def begin(self, status: int, headers: tuple[tuple[str, str], ...]) -> Stream: ...

    def upgrade(self, api_minor: int) -> SocketUpgrade: ...

    def let_cancel(self) -> None: ...


class Request:
    """One request. ``path`` has no version prefix and no percent escapes.

    ``body`` of a route that does not stream is read before the route runs: see ``content``.
    """

    __slots__ = (
        "body",
        "content",
        "exchange",
        "head",
        "method",
        "minor",
        "operation",
        "path",
        "peer",
        "query",
        "started",
    )

    def __init__(self, head: Head, body: Body, peer: Peer, exchange: Exchange) -> None:
        self.head = head
        self.method = head.method
        self.body = body
        self.peer = peer
        self.exchange = exchange
        self.path = ""
        self.query: Mapping[str, list[str]] = {}
        self.minor = 0
        """Minor of the API version asked for: 43 for ``/v1.43/...``."""
        self.operation = ""
        """``METHOD /pattern`` of the route that serves it."""
        self.content = b""
        self.started = False
        """Whether a byte of the response is out: from then errors travel in-band."""

    def header(self, name: str) -> str:
        """Return a header by its lower-case name, or an empty string."""
        return self.head.headers.get(name, "")

    def stream(
        self,
        content_type: str,
        status: int = 200,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Stream:
        """Send the head of a streamed response now and return where its body goes."""
        self.started = True
        return self.exchange.begin(status, (("Content-Type", content_type), *headers))

    def upgrade(self) -> SocketUpgrade:
        """Return the means to take the socket over (attach, exec)."""
        return self.exchange.upgrade(self.minor)


def reason_of(status: int) -> str:
    """Return the reason phrase of ``status``."""
    return _REASONS.get(status, "Unknown")


def json_response(value: object, status: int = 200) -> Response:
    """Return ``value`` as JSON with a final line feed, as Docker sends it."""
    return Response(status, msgspec.json.encode(value) + b"\n")


def error_response(status: int, message: str) -> Response:
    """Return Docker's form of an error. 304 has no body."""
    if status == 304:
        return Response(304, b"", "")
    return json_response({"message": message}, status)
