"""Bytes from strangers against the HTTP server: the head, the body, a whole connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwood.api.http.body import Body
from boxwood.api.http.connection import Connection, ServerSide
from boxwood.api.http.head import HeadReader
from boxwood.api.http.message import BadRequest, Request, Response

pytestmark = pytest.mark.property

HEAD = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
WORDS = [
    b"GET", b"POST", b"HEAD", b"CONNECT", b" ", b"/", b"/_ping", b"*", b"HTTP/1.1", b"HTTP/1.0",
    b"HTTP/9.9", b"\r\n", b"\n", b"\r", b"Host: x\r\n", b"Content-Length: ", b"3", b"-1", b"+1",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: upgrade\r\n",
    b"Connection: close\r\n", b"Upgrade: tcp\r\n", b"Expect: 100-continue\r\n", b"\r\n\r\n",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b";ext=1", b"\x00", b":", b"abc",
]  # fmt: skip
soup = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8)), max_size=30).map(b"".join)
mutated = st.tuples(st.integers(0, len(HEAD)), st.binary(max_size=4), st.integers(0, 4)).map(
    lambda cut: HEAD[: cut[0]] + cut[1] + HEAD[cut[0] + cut[2] :]
)
messages = st.one_of(soup, mutated, st.lists(mutated, max_size=3).map(b"".join))
cuts = st.lists(st.integers(0, 400), max_size=6)


def split(data: bytes, at: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(mark for mark in at if mark < len(data))})
    return [data[start:stop] for start, stop in itertools.pairwise(marks)]


def read_head(pieces: list[bytes]) -> object:
    reader = HeadReader()
    for index, piece in enumerate(pieces):
        try:
            found = reader.feed(piece)
        except BadRequest as error:
            return error.status
        if found is not None:
            return found[0], found[1] + b"".join(pieces[index + 1 :])
    return None


@given(messages, cuts)
def test_a_head_is_the_same_however_it_is_cut(data, at):
    whole, cut = read_head([data]), read_head(split(data, at))
    if isinstance(whole, int) or isinstance(cut, int):
        # Leading line feeds are skipped in one piece only; both refuse or none does otherwise.
        assert data[:1] in (b"\r", b"\n") or whole == cut
    else:
        assert whole == cut or data[:1] in (b"\r", b"\n")


def chunks(pieces: list[bytes]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return body + b"0\r\n\r\n"


def feed(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Feed a chunked body; returns what was read, what lies behind it, whether it failed."""
    body = Body(None, lambda: None, lambda _pause: None)
    rest = b""
    for index, piece in enumerate(pieces):
        rest = body.feed(piece)
        if body.complete or body.failed:
            rest += b"".join(pieces[index + 1 :])
            break
    got = asyncio.run(_drain(body)) if body.complete else b""
    return got, rest, body.failed


async def _drain(body: Body) -> bytes:
    return await body.read(1 << 20)


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.just(b"\r\n\r\n"), st.just(b"0\r\n\r\n"))),
    st.one_of(st.binary(max_size=40), st.just(b"\r\n\r\n"), st.just(HEAD)),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_a_chunked_body_ends_where_it_ends(pieces, tail, at):
    got, rest, failed = feed(split(chunks(pieces) + tail, at))
    assert not failed
    assert got == b"".join(pieces)
    assert rest == tail


@given(soup, cuts)
def test_a_garbled_chunked_body_is_refused_or_waited_for(data, at):
    assert feed([data])[0:1] == feed(split(data, at))[0:1]


async def _echo(request: Request) -> Response:
    return Response(200, await request.body.read(1 << 16), "text/plain")


async def _converse(pieces: list[bytes]) -> bytes:
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = asyncio.get_running_loop()
    side = ServerSide(_echo, ())
    await loop.connect_accepted_socket(lambda: Connection(side), far)
    with near, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            await loop.sock_sendall(near, piece)
            await asyncio.sleep(0)
        near.shutdown(socket.SHUT_WR)
        answer = b""
        async with asyncio.timeout(5):
            while piece := await loop.sock_recv(near, 65536):
                answer += piece
        return answer
    return b""


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(messages, cuts)
def test_a_connection_answers_or_ends(data, at):
    answer = asyncio.run(_converse(split(data, at)))
    assert answer == b"" or answer.startswith(
        (b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.1 1")
    )
    assert b"HTTP/1.1 500" not in answer
