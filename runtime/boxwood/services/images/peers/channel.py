"""Frames between two engines, over a client that carries them.

A frame is a letter, the length of what follows (32 bits, big-endian), and that:

======  ===========  ==============================================================
letter  sent by      content
======  ===========  ==============================================================
``O``   sender       :class:`Offer`, MessagePack: once, first
``A``   receiver     :class:`Ask`, MessagePack: one layer's list, all of it, or some
``D``   both         a part of a stream: of what was asked for, or the bits of ``A``
``E``   both         the end of a stream
``S``   receiver     a message of progress, JSON: for the client, not carried on
``F``   both         what went wrong, UTF-8: the end
``Z``   receiver     :class:`Done`, JSON: the image is here, the end
======  ===========  ==============================================================
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import msgspec

from boxwood.errors import BoxwoodError, DeadlineExceeded, InvalidArgument, TooLarge, Unavailable
from boxwood.model.wire import Wire
from boxwood.services.images.peers.identity import Identity
from boxwood.store.piping import readable, writable

T = TypeVar("T", bound=msgspec.Struct)

OFFER, ASK, DATA, END, SAY, FAIL, DONE = b"O", b"A", b"D", b"E", b"S", b"F", b"Z"
HEAD = struct.Struct(">cI")
FRAME_LIMIT = 8 << 20
"""Bytes of a frame: a config of the largest kind (4 MiB), and the rest of an offer."""
PIECE = 256 << 10
"""Bytes of a stream that go in one frame."""
SILENCE = 600.0
"""Seconds without a byte after which the other side is given up: it may have to make a large
layer's tar again, and to list its chunks, before it can say anything."""
TYPE = "application/vnd.boxwood.store.v1"
TEXT = 2000
"""Characters of an error that are carried."""


class Offer(msgspec.Struct, frozen=True):
    """An image: the bytes of its config, and those of each layer's tar; and what it is elsewhere,
    which engines of before do not say and do not read."""

    config: bytes
    sizes: list[int]
    identity: Identity = Identity()


class Ask(msgspec.Struct, frozen=True):
    """What is wanted of one layer, counted from the lowest.

    ``list``: the list of its chunks; ``all``: its tar; ``some``: the chunks whose bits, which
    follow as a stream, are set. The last two come as one zstd frame. ``blob``: the compressed
    bytes that it came as, as they are.
    """

    layer: int
    what: str


class Done(Wire):
    """The end of a transfer."""

    id: str
    name: str = ""
    layers: int = 0
    """Layers that were new."""
    size: int = 0
    """Bytes of their tars."""
    travelled: int = 0
    """Bytes that came for them."""


class Channel:
    """One engine's end."""

    def __init__(self, fd: int, early: bytes) -> None:
        """``fd`` is ours from now on; ``early`` was read from it before."""
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._held = bytearray(early)
        self._unsent = bytearray()
        self.broken = False
        """Has the other side failed, or gone?"""
        self.streaming = False
        """Is a stream on its way here?"""
        self.received = 0
        """Bytes of streams that have come."""

    def close(self) -> None:
        """Close it; idempotent."""
        self._sock.close()

    async def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send a frame; raises Unavailable. Who is cancelled in it leaves no half a frame."""
        self._unsent += HEAD.pack(kind, len(data)) + data
        while self._unsent:
            try:
                del self._unsent[: self._sock.send(self._unsent)]
            except BlockingIOError:
                await writable(self._sock.fileno())
            except OSError as error:
                raise self._broken(error.strerror or str(error)) from error

    async def send_stream(self, pieces: AsyncIterator[bytes]) -> None:
        """Send a stream; raises Unavailable, and what the stream raises."""
        async for piece in pieces:
            for start in range(0, len(piece), PIECE):
                await self.send(DATA, piece[start : start + PIECE])
        await self.send(END)

    async def receive(self) -> tuple[bytes, bytes]:
        """Return kind and content of the next frame.

        Raises:
            Unavailable: the other side has gone, or said that it failed.
            DeadlineExceeded: it says nothing.
            TooLarge: a frame beyond all bounds.
        """
        await self._hold(HEAD.size)
        kind, size = HEAD.unpack_from(self._held)
        if size > FRAME_LIMIT:
            self.broken = True
            raise TooLarge(f"store: a frame of {size} bytes")
        # Taken only when all of it is here: who is cancelled before leaves it to the next.
        await self._hold(HEAD.size + size)
        data = bytes(memoryview(self._held)[HEAD.size : HEAD.size + size])
        del self._held[: HEAD.size + size]
        if kind == FAIL:
            self.broken = True
            raise Unavailable(f"the other engine: {data.decode(errors='replace')[:TEXT]}")
        return kind, data

    async def expect(self, kind: bytes) -> bytes:
        """Return the content of the next frame, which is of that kind; errors as receive's."""
        found, data = await self.receive()
        if found != kind:
            self.broken = True
            raise InvalidArgument(f"store: {found!r} came in place of {kind!r}")
        return data

    async def stream(self, limit: int) -> AsyncGenerator[bytes, None]:
        """Yield a stream's pieces; raises TooLarge beyond ``limit`` bytes, errors as receive's."""
        self.streaming = True
        while True:
            kind, data = await self.receive()
            if kind == END:
                self.streaming = False
                return
            if kind != DATA or not data:  # what is empty could come for ever
                self.broken = True
                raise InvalidArgument(f"store: {kind!r} of {len(data)} bytes came within a stream")
            self.received += len(data)
            limit -= len(data)
            if limit < 0:
                self.broken = True
                raise TooLarge("store: more comes than was asked for")
            yield data

    async def drain(self, limit: int) -> None:
        """Throw the rest of a stream away that is on its way."""
        if self.streaming:
            async for _ in self.stream(limit):
                pass

    async def fail(self, error: BaseException) -> None:
        """Tell the other side, and the client, as long as somebody listens."""
        text = str(error) if isinstance(error, BoxwoodError) else "internal error; see the log"
        try:
            async with asyncio.timeout(5):
                await self.send(FAIL, text[:TEXT].encode())
        except (BoxwoodError, TimeoutError):
            return

    async def _hold(self, size: int) -> None:
        """Read until so many bytes are held."""
        while len(self._held) < size:
            try:
                data = self._sock.recv(PIECE)
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                raise self._broken(error.strerror or str(error)) from error
            if not data:
                raise self._broken("it has gone")
            self._held += data

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(SILENCE):
                await readable(self._sock.fileno())
        except TimeoutError:
            self.broken = True
            raise DeadlineExceeded(f"store: nothing came for {SILENCE:g} s") from None

    def _broken(self, cause: str) -> Unavailable:
        self.broken = True
        return Unavailable(f"the other engine: {cause}")


def decoded(data: bytes, into: type[T]) -> T:
    """Return what a frame holds; raises InvalidArgument."""
    try:
        return msgspec.msgpack.decode(data, type=into)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"store: {error}") from error
