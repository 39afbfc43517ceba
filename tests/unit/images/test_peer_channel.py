"""Frames between two engines: in any pieces, cut off anywhere, cancelled anywhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwood.errors import BoxwoodError, InvalidArgument, TooLarge, Unavailable
from boxwood.services.images.peers.channel import (
    ASK,
    DATA,
    END,
    FAIL,
    FRAME_LIMIT,
    HEAD,
    OFFER,
    Ask,
    Channel,
    Offer,
    decoded,
)


def frame(kind: bytes, data: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(data)) + data


def talk(run: Callable[[Channel, socket.socket], Awaitable[None]], early: bytes = b"") -> None:
    """Run with a channel and the raw other end of it."""

    async def inside() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = Channel(ours.detach(), early)
            try:
                async with asyncio.timeout(20):
                    await run(channel, theirs)
            finally:
                channel.close()

    asyncio.run(inside())


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([ASK, DATA, END]), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
)
def test_frames_come_in_any_pieces(frames: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
    whole = b"".join(frame(*one) for one in frames)

    async def run(channel: Channel, theirs: socket.socket) -> None:
        async def feed() -> None:
            at = len(early)
            for size in sizes * (len(whole) // sum(sizes) + 1):
                theirs.sendall(whole[at : at + size])
                at += size
                await asyncio.sleep(0)

        feeding = asyncio.create_task(feed())
        assert [await channel.receive() for _ in frames] == frames
        await feeding
        theirs.close()
        with pytest.raises(Unavailable):
            await channel.receive()
        assert channel.broken

    early = whole[: sizes[0]]
    talk(run, early)


async def all_frames(channel: Channel) -> None:
    while True:
        await channel.receive()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_error_of_ours(data: bytes) -> None:
    async def run(channel: Channel, theirs: socket.socket) -> None:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(BoxwoodError):
            await all_frames(channel)

    talk(run)
    for kind in (Ask, Offer):
        try:
            decoded(data, kind)
        except InvalidArgument:
            continue


def test_who_is_cancelled_in_a_frame_leaves_it_to_the_next() -> None:
    async def run(channel: Channel, theirs: socket.socket) -> None:
        whole = frame(OFFER, b"x" * 1000)
        for cut in (0, 3, 5, 700):
            waiting = asyncio.create_task(channel.receive())
            theirs.sendall(whole[:cut])
            for _ in range(5):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            theirs.sendall(whole[cut:])
            assert await channel.receive() == (OFFER, b"x" * 1000)

    talk(run)


def test_who_is_cancelled_while_sending_leaves_no_half_a_frame() -> None:
    async def run(channel: Channel, theirs: socket.socket) -> None:
        sending = asyncio.create_task(channel.send(DATA, bytes(4 << 20)))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        more = asyncio.create_task(channel.send(END))
        loop, wanted, got = asyncio.get_running_loop(), 10 + (4 << 20), bytearray()
        theirs.setblocking(False)
        while len(got) < wanted:
            got += await loop.sock_recv(theirs, 1 << 20)
        await more
        assert bytes(got) == frame(DATA, bytes(4 << 20)) + frame(END)

    talk(run)


def test_what_is_refused() -> None:
    async def run(channel: Channel, theirs: socket.socket) -> None:
        theirs.sendall(frame(DATA, b"12345") + frame(DATA, b"6") + frame(END) + frame(ASK))
        with pytest.raises(TooLarge):
            async for _ in channel.stream(5):
                pass
        assert channel.broken
        await channel.drain(0)
        with pytest.raises(InvalidArgument):
            await channel.expect(OFFER)
        theirs.sendall(frame(FAIL, b"disk full") + HEAD.pack(DATA, FRAME_LIMIT + 1))
        with pytest.raises(Unavailable, match="the other engine: disk full"):
            await channel.receive()
        with pytest.raises(TooLarge):
            await channel.receive()

    talk(run)


def test_the_rest_of_a_stream_can_be_left() -> None:
    async def run(channel: Channel, theirs: socket.socket) -> None:
        theirs.sendall(frame(DATA, b"1") + frame(DATA, b"2") + frame(END) + frame(ASK, b"x"))
        async for piece in channel.stream(10):
            assert piece == b"1"
            break
        await channel.drain(10)
        assert await channel.receive() == (ASK, b"x")
        assert channel.received == 2

    talk(run)
