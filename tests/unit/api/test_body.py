"""Chunked bodies: what is in them, and where they end, however they are cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.api.http.body import Body
from boxwood.api.http.message import BadRequest

# Content that looks like the ends of bodies and the heads of chunks.
CONTENT = st.lists(st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"5\r\n", b"x", b"\0" * 700]))
EXTENSIONS = st.sampled_from([b"", b";a=b", b';a="b"'])
TRAILERS = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: 0\r\n"])


@st.composite
def coded(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return (content, the same in chunks)."""
    chunks = [chunk for part in draw(st.lists(CONTENT)) if (chunk := b"".join(part))]
    form = draw(st.sampled_from([b"%x", b"%X", b"0%x"]))
    body = b"".join(
        b"%b%b\r\n%b\r\n" % (form % len(chunk), draw(EXTENSIONS), chunk) for chunk in chunks
    )
    last = draw(st.sampled_from([b"0", b"000"])) + draw(EXTENSIONS) + b"\r\n"
    return b"".join(chunks), body + last + draw(TRAILERS) + b"\r\n"


def new_body() -> Body:
    return Body(None, lambda: None, lambda _: None)


def content_of(body: Body) -> bytes:
    """What a route would read."""
    return b"".join(body._queue)


@given(coded(), st.data(), st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"rubbish"]))
def test_content_and_end(made: tuple[bytes, bytes], data: st.DataObject, after: bytes) -> None:
    content, wire = made
    body, rest, at = new_body(), b"", 0
    whole = wire + after
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        if body.complete:
            rest += whole[at : at + size]
        else:
            rest += body.feed(whole[at : at + size])
        at += size
    assert body.complete
    assert not body.failed
    assert content_of(body) == content
    assert rest == after


@pytest.mark.parametrize(
    "wire",
    [
        b"5\r\nabc\r\n0\r\n\r\n",  # shorter than it says
        b"2\r\nabc\r\n0\r\n\r\n",  # longer
        b"0x3\r\nabc\r\n0\r\n\r\n",  # a size for Python, not for HTTP
        b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",  # a bare line feed
        b"3;" + b"x" * 20_000,
        b"7" * 20_000,
        b"fffffffffffffffff\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 5, 100_000])
def test_broken(wire: bytes, step: int) -> None:
    """It fails, or waits for the rest of a chunk; it never ends as if it were whole."""
    body = new_body()
    for at in range(0, len(wire), step):
        if not body.failed:
            body.feed(wire[at : at + step])
    assert not body.complete
    assert body.failed or wire.startswith(b"5")


def test_the_next_request_is_never_swallowed() -> None:
    """A disagreement about where content ends is refused, not guessed."""
    body = new_body()
    framing = body._framing
    framing._content = 1000  # type: ignore[union-attr] # as if a size had been read wrongly
    body.feed(b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert body.failed
    with pytest.raises(BadRequest):
        raise body._error or AssertionError
