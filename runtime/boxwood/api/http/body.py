"""The body of a request: framing, bounds and backpressure.

The connection feeds what it reads; the route takes pieces out. Between the two lies a queue of
bounded size: above the high mark the connection stops reading from its socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

import httptools

from boxwood.api.http.message import BadRequest

HIGH_WATER = 1024 * 1024
"""Bytes queued at which reading stops: a few reads of the loop (256 KiB each)."""
LOW_WATER = 256 * 1024
MAX_TRAILER = 16 * 1024
"""Bytes of chunk heads, extensions and trailers without a byte of data between them."""

_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"\r\n\r\n"


class _ChunkedFraming:
    """Takes chunked coding apart with llhttp, and knows to the byte where it ends.

    A chunked body always ends with an empty line. So the bytes are given to llhttp in pieces
    that end at each empty line: if the message is complete, it is so at the end of a piece, and
    nothing of what follows has been swallowed.

    Content is not searched for empty lines (that took a third of the daemon's time in a load):
    the sizes of chunks say where it ends. They are read here only to know that; llhttp's word is
    what counts, and a message that ends where none should is refused.
    """

    def __init__(self) -> None:
        self.complete = False
        self._pieces: list[bytes] = []
        self._tail = b""
        self._idle = 0
        self._content = 0
        """Bytes of the present chunk that are still to come, with the line's end after them."""
        self._line = b""
        """What has come of a chunk's first line."""
        self._last = False
        """Is this the last chunk, or none that can be read here?"""
        self._overrun = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_begin(self) -> None:
        self._overrun = self.complete

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return (pieces of the body, what lies behind its end)."""
        self._pieces = []
        start = 0
        while start < len(data) and not self.complete:
            stop = self._next_stop(data, start) if self._last else self._skip_chunks(data, start)
            if stop > start:
                self._parse(data[start:stop])
            start = stop
        return self._pieces, data[start:]

    def _skip_chunks(self, data: bytes, start: int) -> int:
        """Return how far there are only whole chunks, or parts of one that is not the last."""
        at = start
        while at < len(data):
            if self._content:
                part = min(self._content, len(data) - at)
                self._content -= part
                at += part
                continue
            end = data.find(b"\n", at) + 1
            if not end:
                self._line += data[at:]
                return len(data)
            self._content = _size_of(self._line + data[at:end])
            if not self._content:
                self._last = True
                self._tail = self._line[-3:]
                return at
            self._content += len(b"\r\n")
            self._line = b""
            at = end
        return at

    def _next_stop(self, data: bytes, start: int) -> int:
        tail = self._tail
        at = (tail + data[start : start + 3]).find(_END) if tail else -1
        if at >= 0:
            stop = start + at + len(_END) - len(tail)
        else:
            at = data.find(_END, start)
            stop = len(data) if at < 0 else at + len(_END)
        self._tail = b"" if at >= 0 else (tail + data[max(start, stop - 3) : stop])[-3:]
        return stop

    def _parse(self, data: bytes) -> None:
        before = len(self._pieces)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"malformed chunked body: {error}") from error
        if self._overrun:
            raise BadRequest(400, "malformed chunked body: it ends too early")
        self._idle = 0 if len(self._pieces) > before else self._idle + len(data)
        if self._idle > MAX_TRAILER:
            raise BadRequest(400, "malformed chunked body: trailer too long")


def _size_of(line: bytes) -> int:
    """Return the size that a chunk's first line gives; 0: the last one's, or none."""
    try:
        return max(0, int(line.partition(b";")[0], 16))
    except ValueError:
        return 0


class _LengthFraming:
    """A body of a length that is known."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def complete(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return (pieces of the body, what lies behind its end)."""
        if len(data) <= self._left:
            self._left -= len(data)
            return [data], b""
        piece, rest = data[: self._left], data[self._left :]
        self._left = 0
        return ([piece] if piece else []), rest


class Body:
    """What a route reads the request's body from.

    Args:
        length: bytes announced, or None for a chunked body.
        on_demand: called once when somebody first waits for bytes (sends ``100 Continue``).
        flow: called with True to stop, with False to go on reading from the socket.
    """

    def __init__(
        self,
        length: int | None,
        on_demand: Callable[[], None],
        flow: Callable[[bool], None],
    ) -> None:
        self._framing = _ChunkedFraming() if length is None else _LengthFraming(length)
        self.length = length
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_demand: Callable[[], None] | None = on_demand
        self._flow = flow
        self._paused = False

    @property
    def complete(self) -> bool:
        """Whether the last byte has come (it may not have been read yet)."""
        return self._framing.complete

    @property
    def failed(self) -> bool:
        """Whether the client broke the body off or garbled it."""
        return self._error is not None

    def feed(self, data: bytes) -> bytes:
        """Take ``data`` from the connection; return what lies behind the body's end."""
        try:
            pieces, rest = self._framing.feed(data)
        except BadRequest as error:
            self.fail(error)
            return b""
        for piece in pieces:
            self._queue.append(piece)
            self._queued += len(piece)
        if self._queued > HIGH_WATER and not self._paused:
            self._paused = True
            self._flow(True)
        self._wake()
        return rest

    def fail(self, error: Exception) -> None:
        """Let the reader see ``error`` after what is queued."""
        if self._error is None:
            self._error = error
        self._wake()

    def discard(self) -> None:
        """Forget what is queued and let the socket be read again."""
        self._queue.clear()
        self._queued = 0
        self._resume()

    async def next(self) -> bytes:
        """Return the next piece, empty at the end.

        Raises:
            BadRequest: the body is garbled or ends too early.
            ClientGone: the connection is gone.
        """
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._framing.complete:
                return b""
            await self._wait()
        piece = self._queue.popleft()
        self._queued -= len(piece)
        if self._queued < LOW_WATER:
            self._resume()
        return piece

    async def read(self, limit: int) -> bytes:
        """Return the whole body. Raises BadRequest (413) when it is over ``limit`` bytes."""
        if self.length is not None and self.length > limit:
            raise BadRequest(413, f"request body too large: limit is {limit} bytes")
        parts: list[bytes] = []
        size = 0
        while piece := await self.next():
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise BadRequest(413, f"request body too large: limit is {limit} bytes")
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _wait(self) -> None:
        if self._on_demand is not None:
            demand, self._on_demand = self._on_demand, None
            demand()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._flow(False)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
