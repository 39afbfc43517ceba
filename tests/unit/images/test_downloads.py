"""Downloads over several connections: which bytes are asked for, and what becomes of faults."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from boxwood.errors import NotFound, Unavailable, Unsupported
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest
from boxwood.services.images import downloads
from boxwood.services.images.downloads import Downloads

PIECE = 10_000


class Peer:
    """One that has a blob. Its streams stop at ``stop`` until somebody has asked for a part."""

    def __init__(self, content: bytes, stop: int) -> None:
        self.content, self.stop = content, stop
        self.descriptor = Descriptor(
            media_type="application/octet-stream",
            digest=str(Digest.of(content)),
            size=len(content),
        )
        self.asked = asyncio.Event()
        self.parts: list[tuple[int, int]] = []
        self.streams: list[int] = []
        self.failing: BaseException | None = None
        self.sent = 0

    async def fetch(self, offset: int) -> AsyncIterator[bytes]:
        self.streams.append(offset)
        for at in range(offset, len(self.content), PIECE):
            if at >= self.stop:
                await self.asked.wait()
            await asyncio.sleep(0)
            piece = self.content[at : at + PIECE]
            self.sent += len(piece)
            yield piece

    async def part(self, start: int, end: int) -> AsyncIterator[bytes]:
        self.parts.append((start, end))
        self.asked.set()
        if self.failing is not None:
            raise self.failing
        for at in range(start, end, PIECE):
            await asyncio.sleep(0)
            piece = self.content[at : min(at + PIECE, end)]
            self.sent += len(piece)
            yield piece


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are added for little, and at once."""
    monkeypatch.setattr(downloads, "LOOK", 0.001)
    monkeypatch.setattr(downloads, "SOON", 0.0)
    monkeypatch.setattr(downloads, "LEAST_PART", 50_000)
    monkeypatch.setattr(downloads, "GAIN", 0.0)


async def received(root: Path, peer: Peer, connections: int = 4) -> bytes:
    """Download it all and return the bytes as a follower reads them."""
    store = Downloads(root, 3, 5, connections)
    async with store.joined(peer.descriptor, peer.fetch, peer.part) as download:
        return b"".join([piece async for piece in download.follow()])


async def test_parts(tmp_path: Path) -> None:
    """Halves of what is left come over connections of their own, and all is there once."""
    peer = Peer(os.urandom(1_000_000), 200_000)
    assert await received(tmp_path, peer) == peer.content
    assert peer.parts
    assert peer.parts[0][1] == len(peer.content)
    assert not list((tmp_path / "partial").glob("*.spans"))


@pytest.mark.parametrize("gain", [0.0, 1e9])
async def test_a_connection_on_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    """It brings some of the end; then halves if that was faster, else nothing more."""
    monkeypatch.setattr(downloads, "GAIN", gain)
    peer = Peer(os.urandom(2_000_000), 200_000)
    monkeypatch.setattr(downloads, "TRIAL", 0.0)  # LEAST_PART then
    assert await received(tmp_path, peer) == peer.content
    assert peer.parts[0] == (1_950_000, 2_000_000)
    assert gain == 0.0 or len(peer.parts) == 1
    assert gain == 0.0 or peer.streams == [0]


async def test_one_connection(tmp_path: Path) -> None:
    """With one allowed there are no parts."""
    peer = Peer(os.urandom(300_000), 1 << 30)
    assert await received(tmp_path, peer, connections=1) == peer.content
    assert (peer.streams, peer.parts) == ([0], [])


@pytest.mark.parametrize("error", [Unsupported("no parts"), Unavailable("too many connections")])
async def test_a_peer_without_parts(tmp_path: Path, error: BaseException) -> None:
    """It is asked once; the first connection brings the rest, and nothing comes twice."""
    peer = Peer(os.urandom(1_000_000), 200_000)
    peer.failing = error
    assert await received(tmp_path, peer) == peer.content
    assert len(peer.parts) == 1
    assert peer.sent == len(peer.content)


async def test_a_killed_daemon(tmp_path: Path) -> None:
    """What came in parts is not asked for again by the next one."""
    peer = Peer(os.urandom(1_000_000), 200_000)
    store = Downloads(tmp_path, 3, 5, 4)
    async with store.joined(peer.descriptor, peer.fetch, peer.part) as download:
        while not peer.parts or download.there < 600_000:
            await download.progress()
    again = Peer(peer.content, 1 << 30)
    store = Downloads(tmp_path, 3, 5, 1)
    async with store.joined(again.descriptor, again.fetch, again.part) as download:
        missing = len(peer.content) - download.there
        assert b"".join([piece async for piece in download.follow()]) == peer.content
        assert again.sent == missing


async def test_who_comes_after_a_failure(tmp_path: Path) -> None:
    """What has failed for all who waited is begun again by the way of who comes then."""
    store = Downloads(tmp_path, 3, 1)
    peer = Peer(os.urandom(100_000), 1 << 30)

    async def nowhere(_: int) -> AsyncIterator[bytes]:
        yield peer.content[:PIECE]
        raise NotFound("gone")

    async with store.joined(peer.descriptor, nowhere) as first:
        with pytest.raises(NotFound):
            await first.arrived()
        async with store.joined(peer.descriptor, peer.fetch) as second:
            assert second is first
            assert b"".join([piece async for piece in second.follow()]) == peer.content
    assert peer.streams == [PIECE]


async def test_wrong_bytes_of_every_way(tmp_path: Path) -> None:
    """The next way is used, once for all who found it out; nobody joins what is wrong for good."""
    store = Downloads(tmp_path, 3, 1)
    one, other = (Peer(os.urandom(10_000), 1 << 30) for _ in range(2))
    async with store.joined(one.descriptor, one.fetch) as first:
        await first.arrived()
        assert not first.renewable
        async with store.joined(one.descriptor, other.fetch) as second:
            assert second.renewable
            await second.renew(0)
            await second.arrived()
            assert (one.streams, other.streams) == ([0], [0])
            await second.renew(0)  # somebody else has found it out, too
            assert second.renewals == 1
        first.wrong = True
        async with store.joined(one.descriptor, one.fetch) as third:
            assert third is not first
            assert b"".join([piece async for piece in third.follow()]) == one.content
    assert not list((tmp_path / "partial").iterdir())


def test_what_is_kept_from_start_to_start(tmp_path: Path) -> None:
    """A week; not what is a layer by now, what was kept apart, or a map of nothing."""
    store = Downloads(tmp_path, 3, 5)
    layer, old, fresh = (str(Digest.of(name)) for name in (b"layer", b"old", b"fresh"))
    paths = {name: store.path(Digest.parse(name)) for name in (layer, old, fresh)}
    for path in paths.values():
        path.write_bytes(b"part")
        path.with_name(f"{path.name}.spans").write_bytes(b"[]")
    day = 86400
    for name, age in ((layer, 0), (old, 8 * day), (fresh, 6 * day)):
        os.utime(paths[name], (0, time.time() - age))
    apart = paths[fresh].with_name(f"{paths[fresh].name}.0123")
    apart.write_bytes(b"part")
    (tmp_path / "partial/sha256-gone.spans").write_bytes(b"[]")
    said = store.sweep({layer})
    assert len(said) == 3
    left = {path.name for path in (tmp_path / "partial").iterdir()}
    assert left == {paths[fresh].name, f"{paths[fresh].name}.spans"}


async def test_who_leaves_takes_the_way_along(tmp_path: Path) -> None:
    """Nothing of it is in use any more when he has left; the next way brings the rest."""
    store = Downloads(tmp_path, 3, 5)
    peer = Peer(os.urandom(100_000), 1 << 30)
    closed = False

    async def held(_: int) -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield peer.content[:PIECE]
            await asyncio.Event().wait()
        finally:
            closed = True

    async with AsyncExitStack() as first:
        download = await first.enter_async_context(store.joined(peer.descriptor, held))
        while not download.received:
            await download.progress()
        async with store.joined(peer.descriptor, peer.fetch) as second:
            assert (second, closed) == (download, False)
            await first.aclose()
            assert closed
            assert b"".join([piece async for piece in second.follow()]) == peer.content
    assert peer.streams == [PIECE]


async def test_who_leaves_before_it_has_begun(tmp_path: Path) -> None:
    """His way is never used; alone, it stays in use until the end."""
    store = Downloads(tmp_path, 1, 5)
    blocking, first, second = (Peer(os.urandom(100_000), at) for at in (PIECE, 1 << 30, 1 << 30))
    async with store.joined(blocking.descriptor, blocking.fetch) as before:
        while not before.received:
            await before.progress()
        async with AsyncExitStack() as leaving:
            await leaving.enter_async_context(store.joined(first.descriptor, first.fetch))
            second.content = first.content
            async with store.joined(first.descriptor, second.fetch) as download:
                await leaving.aclose()
                blocking.asked.set()
                assert b"".join([piece async for piece in download.follow()]) == first.content
    assert (first.streams, second.streams) == ([], [0])
