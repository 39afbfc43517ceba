"""Chunks of layers: the jobs that list, compare, send and join them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwood.errors import BoxwoodError, InvalidArgument, TooLarge
from boxwood.execution import worker_chunks as jobs
from boxwood_ext import cdc
from tests.support.tars import noise

# The jobs, on files


@pytest.fixture
def file() -> Iterator[Callable[[bytes], int]]:
    with ExitStack() as stack:

        def made(data: bytes = b"") -> int:
            one = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            one.write(data)
            one.seek(0)
            return one.fileno()

        yield made


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 30, 0)


def _list(data: bytes) -> list[bytes]:
    """Return the list of a tar in parts: its head, and each entry."""
    with tempfile.TemporaryFile(buffering=0) as source, tempfile.TemporaryFile() as sink:
        source.write(data)
        source.seek(0)
        jobs.chunk_layer({}, [source.fileno(), sink.fileno()])
        found = content(sink.fileno())
    head, rest = found[: len(jobs.MAGIC)], found[len(jobs.MAGIC) :]
    return [head, *(rest[at : at + 20] for at in range(0, len(rest), 20))]


class Transfer:
    """All four jobs in their order, as two engines do them."""

    def __init__(
        self, file: Callable[[bytes], int], new: bytes, old: Sequence[bytes], partial: bytes = b""
    ) -> None:
        theirs = file(b"".join(_list(new)))
        plan, bits, frame, sink = file(b""), file(b""), file(b""), file(b"")
        own = file(partial)
        append_to(own)
        lists = [file(b"".join(_list(one))) for one in (partial, *old)]
        found = jobs.match_layer({"size": len(new)}, [theirs, plan, bits, *lists])
        self.wanted: int = found["wanted"]
        self.used: list[int] = found["used"]
        jobs.send_layer({}, [file(new), frame, theirs, bits])
        os.lseek(frame, 0, os.SEEK_SET)
        tars = [file(one) for one in old]
        jobs.join_layer({"size": len(new)}, [plan, frame, sink, own, file(b""), *tars])
        self.result = content(sink)
        self.partial = content(own)


def append_to(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)


def test_only_the_difference_travels(file: Callable[[bytes], int]) -> None:
    old = noise(4, 8 << 20)
    new = old[: 1 << 20] + noise(5, 100_000) + old[2 << 20 :] + old[:300_000]
    done = Transfer(file, new, [old])
    assert done.result == new
    assert done.wanted < 1_000_000
    assert done.used == [0, len(new) - done.wanted]
    assert len(done.partial) == done.wanted


def test_what_came_before_a_fault_does_not_come_again(file: Callable[[bytes], int]) -> None:
    new = noise(6, 4 << 20)
    cut = new[:2_500_000]
    with tempfile.TemporaryFile(buffering=0) as source, tempfile.TemporaryFile() as sink:
        source.write(cut)
        source.seek(0)
        whole = jobs.chunk_layer({}, [source.fileno(), sink.fileno()])["whole"]
    assert len(cut) - whole <= cdc.MAXIMUM
    done = Transfer(file, new, [], cut[:whole])
    assert done.result == new
    assert done.wanted == len(new) - whole
    assert done.partial == new


def test_a_list_that_would_be_too_long_is_empty_and_likens_nothing(
    file: Callable[[bytes], int],
) -> None:
    data = noise(7, 1 << 20)
    sink, source = file(b""), file(data)
    found = jobs.chunk_layer({"limit": 1000}, [source, sink])
    assert found == {"size": len(data), "whole": 0}
    assert content(sink) == b""
    listed = file(b"".join(_list(data)))
    found = jobs.match_layer({"size": len(data)}, [listed, file(b""), file(b""), sink, sink])
    assert found == {"wanted": len(data), "used": [0, 0]}
    with pytest.raises(InvalidArgument):
        jobs.match_layer({"size": len(data)}, [sink, file(b""), file(b""), listed])


def test_of_what_is_here_no_more_is_held_than_a_list_may_have(
    file: Callable[[bytes], int],
) -> None:
    data = noise(8, 1 << 20)
    listed = _list(data)
    held = 10
    fds = [file(b"".join(listed)), file(b""), file(b""), file(b""), file(b"".join(listed))]
    found = jobs.match_layer({"size": len(data), "limit": held * 20}, fds)
    sizes = [int.from_bytes(entry[:4], "little") for entry in listed[1:]]
    assert found["used"] == [0, sum(sizes[:held])]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 300_000)), max_size=12))
def test_any_mixture_is_put_together_again(parts: list[tuple[int, int]]) -> None:
    old = [noise(seed, 600_000) for seed in range(3)]
    new = b"".join((old[n] if n < 3 else noise(n + size, size))[:size] for n, size in parts)
    with ExitStack() as stack:

        def file(data: bytes) -> int:
            one = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            one.write(data)
            one.seek(0)
            return one.fileno()

        assert Transfer(file, new, old).result == new


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (b"", InvalidArgument),
        (b"boxwood chunks 9\n", InvalidArgument),
        (jobs.MAGIC + bytes(20), InvalidArgument),
        (jobs.MAGIC + b"\xff" * 20, InvalidArgument),
        (jobs.MAGIC + b"\x01\0\0\0" + bytes(15), InvalidArgument),
        (jobs.MAGIC + b"\x01\0\0\0" + bytes(16), InvalidArgument),
        (jobs.MAGIC + bytes(jobs.LIST_LIMIT), TooLarge),
    ],
)
def test_lists_that_are_none(
    file: Callable[[bytes], int], wrong: bytes, kind: type[BoxwoodError]
) -> None:
    empty = file(jobs.MAGIC)
    with pytest.raises(kind):
        jobs.match_layer({"size": 5}, [file(wrong), file(b""), file(b""), empty])


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 1 << 40), st.booleans())
def test_any_list_is_read_or_refused(data: bytes, size: int, headed: bool) -> None:
    with ExitStack() as stack:
        theirs, plan, bits, own = (
            stack.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in range(4)
        )
        theirs.write((jobs.MAGIC if headed else b"") + data)
        own.write(jobs.MAGIC)
        fds = [one.fileno() for one in (theirs, plan, bits, own)]
        try:
            jobs.match_layer({"size": size}, fds)
        except InvalidArgument:
            return


def _frame(data: bytes, **more: Any) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, **more)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"not a frame at all",
        _frame(b"12345"),
        _frame(b"1234567"),
        _frame(b"123456")[:-3],
        _frame(bytes(64 << 20)),
        _frame(b"123456" * 100_000, window_log=27, write_content_size=0),
    ],
    ids=["empty", "other", "short", "long", "cut", "bomb", "window"],
)
def test_frames_that_are_not_what_was_asked_for(file: Callable[[bytes], int], frame: bytes) -> None:
    sink, partial = file(b""), file(b"")
    with pytest.raises(InvalidArgument):
        jobs.join_layer({"size": 6}, [file(b""), file(frame), sink, partial, file(b"")])
    assert len(content(sink)) <= 6
