"""The laws of registry transports that know a network: what peers may do to them.

The peers are the kit's own, on the loopback: they speak as little HTTP as it takes to be silent, to
refuse, to fail, and to lead astray. A transport is tried against them where ``peer`` says how a
name at one is written.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from boxwood.drivers.registry import Credentials
from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from boxwood.testing.registry_kit import RegistryKit, Transport, described, fetched

LOGIN = Credentials("kit-user", "kit-secret")
SECRETS = (b"kit-secret", base64.b64encode(b"kit-user:kit-secret"))
REFUSALS = (NotFound, PermissionDenied, Unauthenticated, Unavailable, DeadlineExceeded, DataLoss)
TLS = b"\x16"
"""The first byte of a TLS handshake: peers speak plainly, and hang up on it."""
BLOB = described("application/octet-stream", b"x" * 9)

Answer = Callable[[bytes], bytes | None]
"""What a peer answers to a request's head; None: nothing."""


class Peer:
    """A server of the kit's. ``answer`` makes an answer of a request's head; None: silence."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.address = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        """Serve while in the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of `serving`
        finally:
            self._serving.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        with contextlib.suppress(*ends):
            while True:
                first = await reader.readexactly(1)
                if first == TLS and self.answer(b"") is not None:
                    break
                head = first + await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                answer = self.answer(head)
                if answer is None:
                    await reader.read()  # until the other side goes
                    break
                writer.write(answer)
                await writer.drain()


def _silence(_: bytes) -> bytes | None:
    return None


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    """Return an answer."""
    lines = [f"HTTP/1.1 {code} Kit", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _lure(answer: bytes) -> Answer:
    """Ask for a login first, then lead away with it."""
    ask = status(401, 'WWW-Authenticate: Basic realm="kit"')
    return lambda head: answer if b"uthorization: " in head else ask


class PeerLaws(RegistryKit):
    """What a network may do."""

    def against(
        self,
        answer: Answer,
        work: Callable[[Transport, Peer], Awaitable[None]],
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Run ``work`` with a peer that answers so; all must end in time."""
        if not self.peer:
            pytest.skip("the transport knows no network, or the suite says no `peer`")

        async def whole(transport: Transport) -> None:
            async with Peer(answer).serving() as peer, asyncio.timeout(self.seconds):
                await work(transport, peer)

        self.talk(whole, options)

    def name_at(self, transport: Transport, peer: Peer) -> object:
        """Return the name of an image at a peer."""
        return transport.parse(self.peer.format(address=peer.address, name="kit", tag="1"))

    async def refused(self, transport: Transport, peer: Peer, *kinds: type[BoxwoodError]) -> None:
        """Resolve and fetch at a peer: both end in one of these errors."""
        name = self.name_at(transport, peer)
        with pytest.raises(kinds or REFUSALS):
            await transport.resolve(name, LOGIN)
        with pytest.raises(kinds or REFUSALS):
            await fetched(transport, name, BLOB, 0, LOGIN)

    def test_a_peer_that_is_silent(self) -> None:
        """Each wait has a bound: Unavailable or DeadlineExceeded, and no hang."""

        async def work(transport: Transport, peer: Peer) -> None:
            await self.refused(transport, peer, Unavailable, DeadlineExceeded)

        self.against(_silence, work, self.hasty)

    def test_a_peer_that_is_not_there(self) -> None:
        """Unavailable."""

        async def work(transport: Transport, peer: Peer) -> None:
            peer.address = "127.0.0.1:1"
            await self.refused(transport, peer, Unavailable, DeadlineExceeded)

        self.against(_silence, work)

    def test_a_peer_that_fails(self) -> None:
        """Unavailable, after a bounded number of attempts."""

        async def work(transport: Transport, peer: Peer) -> None:
            await self.refused(transport, peer, Unavailable)
            assert len(peer.heads) < 50

        self.against(lambda _: status(503), work)

    def test_a_peer_that_wants_somebody_else(self) -> None:
        """A login that is not taken is Unauthenticated, PermissionDenied, or nothing there."""

        async def work(transport: Transport, peer: Peer) -> None:
            await self.refused(transport, peer, Unauthenticated, PermissionDenied, NotFound)
            assert len(peer.heads) < 50

        self.against(lambda _: status(401, 'WWW-Authenticate: Basic realm="kit"'), work)

    def test_a_login_goes_to_its_own_peer_alone(self) -> None:
        """Not where a redirect leads, and not to another host's token server."""

        async def work(transport: Transport, peer: Peer) -> None:
            thief = Peer(lambda _: status(200, body=b'{"token":"t"}'))
            async with thief.serving():
                port = thief.address.rpartition(":")[2]
                for lure in (
                    _lure(status(307, f"Location: http://localhost:{port}/v2/")),
                    _lure(status(307, f"Location: http://{thief.address}/v2/")),
                    lambda _: status(
                        401, f'WWW-Authenticate: Bearer realm="http://localhost:{port}/t"'
                    ),
                ):
                    peer.answer = lure
                    name = self.name_at(transport, peer)
                    with contextlib.suppress(BoxwoodError):
                        await transport.resolve(name, LOGIN)
                    with contextlib.suppress(BoxwoodError):
                        await fetched(transport, name, BLOB, 0, LOGIN)
            seen = [head for head in thief.heads if any(one in head for one in SECRETS)]
            assert seen == []

        self.against(_silence, work)

    def test_a_peer_that_talks_without_end(self) -> None:
        """No more is taken of content than its size says."""

        async def work(transport: Transport, peer: Peer) -> None:
            came = bytearray()
            pieces = transport.fetch(self.name_at(transport, peer), BLOB)
            try:
                async with contextlib.aclosing(pieces) as stream:  # type: ignore[type-var]
                    async for piece in stream:
                        came += piece
            except (DataLoss, InvalidArgument, TooLarge, Unavailable):
                pass
            assert len(came) <= BLOB.size

        self.against(lambda _: status(200, body=b"x" * (1 << 20)), work)
