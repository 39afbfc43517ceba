"""One client's connection: requests come in, in order, and are answered one at a time."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

from boxwood.api.http.body import Body
from boxwood.api.http.head import HeadReader
from boxwood.api.http.message import (
    BadRequest,
    ClientGone,
    Head,
    Peer,
    Request,
    Response,
    error_response,
    reason_of,
)
from boxwood.api.http.upgrade import SocketUpgrade, TlsRelay

if TYPE_CHECKING:
    from collections.abc import MutableSet

log = logging.getLogger("boxwood.api")

HEAD_TIMEOUT = 30.0
"""Seconds for one request head, from its first byte (slow senders)."""
IDLE_TIMEOUT = 300.0
"""Seconds that a connection over TCP may lie idle; those of a unix socket cost a descriptor of
somebody whom the host knows, and clients keep them for ever."""
LINGER_TIMEOUT = 2.0
"""Seconds for which what a client still sends is thrown away, so that it can read our answer:
closing with unread bytes makes the kernel answer with a reset, and the answer is lost."""
HANGUP_INTERVAL = 1.0
"""Seconds between looks at a half-closed unix socket: does anybody still hold the other end?"""
PIPELINE_LIMIT = 64 * 1024
"""Bytes of later requests that are kept while one is served."""
WRITE_HIGH_WATER = 256 * 1024

Handler = Callable[[Request], Awaitable[Response | None]]
"""Serves one request; None: the answer has been streamed or the socket handed over."""


class ServerSide:
    """What all connections of a server share."""

    def __init__(self, handler: Handler, common_headers: tuple[tuple[str, str], ...]) -> None:
        self.handler = handler
        self.common = "".join(f"{name}: {value}\r\n" for name, value in common_headers)
        self.connections: MutableSet[Connection] = set()
        self.closing = False
        self._date = ""
        self._date_at = 0

    def date(self) -> str:
        """Return the Date header's value, made once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = formatdate(now, usegmt=True)
        return self._date


class _ResponseStream:
    """Body of a streamed response: chunked, or to the end of the connection for HTTP/1.0."""

    def __init__(self, connection: Connection, chunked: bool, silent: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        self._silent = silent

    def send(self, data: bytes) -> None:
        if not data or self._silent:
            return
        if self._chunked:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._connection.write(data)

    async def write(self, data: bytes) -> None:
        self.send(data)
        await self._connection.drain()

    def end(self) -> None:
        if self._chunked and not self._silent:
            self._connection.write(b"0\r\n\r\n")


class Connection(asyncio.Protocol):
    """States: reading a head, serving (its body may still come), lingering, handed over."""

    def __init__(self, side: ServerSide) -> None:
        self._side = side
        self._transport: asyncio.Transport | None = None
        self.peer = Peer("unix")
        self._tls = False
        self._reader = HeadReader()
        self._pending = b""
        self._head: Head | None = None
        self._body: Body | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancellable = False
        self._stream: _ResponseStream | None = None
        self._relay: TlsRelay | None = None
        self._upgraded = False
        self._eof = False
        self._lost = False
        self._lingering = False
        self._head_timed = False
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._write_paused = False

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._tls = transport.get_extra_info("ssl_object") is not None
        self.peer = _peer_of(transport, self._tls)
        self._side.connections.add(self)
        if self._side.closing:
            transport.close()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._relay is not None:
            self._relay.feed(data)
        elif self._body is not None and not self._body.complete and not self._body.failed:
            self._keep(self._body.feed(data))
        elif self._task is not None:
            self._keep(data)
        else:
            self._read_head(data)

    def eof_received(self) -> bool:
        """Keep the writing side: who shuts theirs still reads ours."""
        self._eof = True
        if self._relay is not None:
            self._relay.feed_eof()
            return True
        if self._task is None or self._lingering:
            return False
        if self._body is not None and not self._body.complete:
            self._body.fail(BadRequest(400, "request body ends too early"))
        self._watch_hangup()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self._side.connections.discard(self)
        self._stop_timer()
        if self._relay is not None:
            self._relay.close()
        if self._upgraded:
            return
        if self._body is not None:
            self._body.fail(ClientGone("the client closed the connection"))
        self.resume_writing()
        if self._task is not None and self._cancellable:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._relay is not None:
            self._relay.resume()

    # what requests and the server call

    def write(self, data: bytes) -> None:
        """Send ``data``. Raises ClientGone."""
        if self._lost or self._transport is None or self._transport.is_closing():
            raise ClientGone("the client closed the connection")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises ClientGone."""
        while self._write_paused and not self._lost:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable
        if self._lost:
            raise ClientGone("the client closed the connection")

    def begin(self, status: int, headers: tuple[tuple[str, str], ...]) -> _ResponseStream:
        """Send the head of a streamed response."""
        head = self._current()
        chunked = not head.http10
        framing = (("Transfer-Encoding", "chunked"),) if chunked else ()
        self.write(self._head_bytes(status, (*headers, *framing), self._keeps()))
        self._stream = _ResponseStream(self, chunked, head.method == "HEAD")
        return self._stream

    def upgrade(self, api_minor: int) -> SocketUpgrade:
        """Return the means to take this connection over."""
        return SocketUpgrade(self, api_minor)

    def wants_upgrade(self) -> bool:
        """Whether the request has an Upgrade header (else the answer to a hijack is 200)."""
        return bool(self._current().headers.get("upgrade"))

    async def hand_over(self, answer: bytes) -> tuple[socket.socket, bytes]:
        """Send ``answer``, let go of the socket and return it with what was read ahead.

        The socket is the caller's: a duplicate of ours, non-blocking, or one end of a pair that
        is relayed to the client's TLS connection. Raises ClientGone, BadRequest (the body of the
        request never came whole).
        """
        await self._drop_body()
        self.write(answer)
        transport = self._transport
        assert transport is not None
        if self._tls:
            self._relay = TlsRelay(transport, lambda: self._write_paused)
            self._relay.expect(self._pending, self._eof)
            return self._relay.far_end(), b""
        transport.set_write_buffer_limits(high=0)
        await self.drain()
        transport.pause_reading()
        preread, self._pending = self._pending, b""
        taken = transport.get_extra_info("socket").dup()
        taken.setblocking(False)
        self._upgraded = True
        transport.close()
        return taken, preread

    def close_idle(self) -> None:
        """Close if nothing is being served, or only waited for; else after the present request."""
        if self._task is not None and self._cancellable:
            self.abort()
        elif self._task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cancel what is served and cut the connection."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def let_cancel(self) -> None:
        """A client that goes away cancels the present request: it only waits or reads."""
        self._cancellable = True
        if self._lost and self._task is not None:
            self._task.cancel()

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self._task is not None

    # one request after the other

    def _keep(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > PIPELINE_LIMIT:
            self._flow(True)

    def _flow(self, pause: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._upgraded:
            return
        if pause:
            transport.pause_reading()
        elif len(self._pending) <= PIPELINE_LIMIT:
            transport.resume_reading()

    def _read_head(self, data: bytes) -> None:
        try:
            found = self._reader.feed(data)
        except BadRequest as error:
            self._refuse(error)
            return
        if found is None:
            if not (self._head_timed or self._reader.empty):
                self._head_timed = True
                self._start_timer(HEAD_TIMEOUT, self._head_late)
            return
        self._stop_timer()
        self._head_timed = False
        self._reader = HeadReader()
        self._serve_next(*found)

    def _serve_next(self, head: Head, rest: bytes) -> None:
        expect = head.headers.get("expect", "").lower()
        if expect and expect != "100-continue":
            self._refuse(BadRequest(417, f"unsupported expectation {expect!r}"))
            return
        demand = self._continue if expect and not head.http10 else _nothing
        body = Body(None if head.chunked else head.length, demand, self._flow)
        self._head, self._body = head, body
        self._cancellable = False
        request = Request(head, body, self.peer, self)
        self._task = asyncio.get_running_loop().create_task(self._serve(request))
        if not body.complete:
            rest = body.feed(rest) if rest else b""
        self._keep(rest)
        if self._eof and not body.complete:
            body.fail(BadRequest(400, "request body ends too early"))

    async def _serve(self, request: Request) -> None:
        clean = False
        try:
            response = await self._side.handler(request)
            if response is not None:
                self._respond(response)
            elif self._stream is not None:
                self._stream.end()
            clean = True
        except ClientGone:
            log.debug("%s: the client went away", request.operation or request.path)
        except BadRequest as error:
            self._answer_bad(error)
        except asyncio.CancelledError:
            if not self._lost and not self._side.closing:
                raise
        finally:
            self._task = None
            self._finish(clean)

    def _finish(self, clean: bool) -> None:
        """After a response: go on with the next request, or close."""
        body, head = self._body, self._head
        self._stream = self._head = None
        if self._upgraded or self._relay is not None or self._lost:
            self._body = None
            return
        transport = self._transport
        assert transport is not None
        if not clean and not self._lingering:
            transport.abort()
        elif self._lingering or not self._keeps_on(head, body):
            self._linger()
        else:
            self._go_on()

    def _keeps_on(self, head: Head | None, body: Body | None) -> bool:
        if head is None or not head.keep_alive or self._side.closing:
            return False
        return body is None or body.complete

    def _go_on(self) -> None:
        self._body = None
        rest, self._pending = self._pending, b""
        self._flow(False)
        if rest:
            self._read_head(rest)
        if self._task is not None or self._transport is None:
            return
        if self._eof:
            self._transport.close()
        elif self._timer is None:
            self._await_request()

    def _linger(self) -> None:
        """Send the end of our side, and throw away for a moment what still comes."""
        transport = self._transport
        assert transport is not None
        if self._body is not None:
            self._body.discard()
        complete = self._body is None or self._body.complete
        if self._eof or complete or not transport.can_write_eof():
            transport.close()
            return
        self._lingering = True
        self._pending = b""
        transport.write_eof()
        self._flow(False)
        self._stop_timer()
        self._start_timer(LINGER_TIMEOUT, transport.close)

    # answers

    def _respond(self, response: Response) -> None:
        head = self._current()
        headers = response.headers
        if response.content_type:
            headers = (("Content-Type", response.content_type), *headers)
        bodyless = response.status in (204, 304) or response.status < 200
        if not bodyless:
            headers = (*headers, ("Content-Length", str(len(response.body))))
        data = self._head_bytes(response.status, headers, self._keeps())
        if not bodyless and head.method != "HEAD":
            data += response.body
        self.write(data)

    def _answer_bad(self, error: BadRequest) -> None:
        """Answer a request whose body is no good; nothing after it can be trusted."""
        if self._stream is not None or self._upgraded or self._lost:
            return
        if self._head is not None:
            self._head = self._head._replace(keep_alive=False)
        try:
            self._respond(error_response(error.status, str(error)))
        except ClientGone:
            return
        self._linger()

    def _refuse(self, error: BadRequest) -> None:
        """Answer bytes that are no request; the connection ends."""
        self._stop_timer()
        response = error_response(error.status, str(error))
        headers = (
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
        )
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(self._head_bytes(error.status, headers, False) + response.body)
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingering = True
        self._transport.write_eof()
        self._start_timer(LINGER_TIMEOUT, self._transport.close)

    def _head_bytes(
        self, status: int, headers: tuple[tuple[str, str], ...], keep_alive: bool
    ) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        end = "" if keep_alive else "Connection: close\r\n"
        return (
            f"HTTP/1.1 {status} {reason_of(status)}\r\n{self._side.common}"
            f"Date: {self._side.date()}\r\n{lines}{end}\r\n"
        ).encode("latin-1")

    def _keeps(self) -> bool:
        head, body = self._head, self._body
        return head is not None and not head.http10 and self._keeps_on(head, body)

    def _current(self) -> Head:
        if self._head is None:
            raise ClientGone("no request is being served")
        return self._head

    # small things

    def _continue(self) -> None:
        if self._stream is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _drop_body(self) -> None:
        body = self._body
        while body is not None and await body.next():
            pass

    def _await_request(self) -> None:
        if self.peer.kind != "unix" and self._transport is not None:
            self._start_timer(IDLE_TIMEOUT, self._transport.close)

    def _head_late(self) -> None:
        self._timer = None
        self._refuse(BadRequest(408, "request head took too long"))

    def _watch_hangup(self) -> None:
        """Look whether a half-closed client is still there: asyncio does not tell any more."""
        if self._lost or self._upgraded or self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if self._tls or sock is None or sock.fileno() < 0:
            return
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        if poller.poll(0):
            self._transport.abort()
        elif self._task is not None:
            self._start_timer(HANGUP_INTERVAL, self._watch_hangup)

    def _start_timer(self, delay: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None:
    return None


def _peer_of(transport: asyncio.Transport, tls: bool) -> Peer:
    sock = transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        # struct ucred, unix(7)
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Peer("unix", *struct.unpack("3i", raw))
    name = transport.get_extra_info("peername")
    address = f"{name[0]}:{name[1]}" if name else ""
    if not tls:
        return Peer("tcp", address=address)
    certificate = transport.get_extra_info("peercert") or {}
    subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
    return Peer("tls", address=address, common_name=subject.get("commonName", ""))
