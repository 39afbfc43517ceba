"""Chunks of layers: where they are cut, and the jobs that list, compare, send and join them."""

from __future__ import annotations

import fcntl
import os
import random
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


def gear() -> list[int]:
    """Return SplitMix64's first 256 numbers."""
    state, found = 0, []
    for _ in range(256):
        state = (state + 0x9E3779B97F4A7C15) & M64
        mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & M64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & M64
        found.append(mixed ^ mixed >> 31)
    return found


M64 = (1 << 64) - 1
GEAR = gear()


def slow_cuts(data: bytes, least: int, average: int, most: int) -> list[int]:
    """The same from the paper's words, a byte at a time."""
    bits = average.bit_length() - 1
    found, start = [], 0
    while start < len(data):
        end, mark = start + least, 0
        while end < min(len(data), start + most):
            mark = (mark << 1) + GEAR[data[end]] & M64
            wanted = bits + 2 if end - start < average else bits - 2
            end += 1
            if mark >> 64 - wanted == 0:
                break
        start = min(end, len(data))
        found.append(start)
    return found


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


SMALL = {"least": 64, "average": 256, "most": 1024}


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=64), st.integers(0, 1 << 30), st.integers(0, 5000))
def test_cuts_are_those_of_the_reference(head: bytes, seed: int, size: int) -> None:
    data = head + noise(seed, size)
    assert cdc.cuts(data, True, **SMALL) == slow_cuts(data, **SMALL)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 30), st.lists(st.integers(1, 3000), max_size=6))
def test_a_stream_in_pieces_is_cut_like_the_whole(seed: int, sizes: list[int]) -> None:
    data = noise(seed, sum(sizes))
    found, held, base = [], b"", 0
    for size in [*sizes, 0]:
        held += data[base + len(held) :][:size]
        ends = cdc.cuts(held, size == 0, **SMALL)
        found += [base + end for end in ends]
        last = ends[-1] if ends else 0
        held, base = held[last:], base + last
    assert found == cdc.cuts(data, True, **SMALL)


def test_whole_chunks_in_another_order_are_the_same_chunks() -> None:
    data = noise(1, 100_000)
    ends = cdc.cuts(data, **SMALL)
    chunks = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    random.Random(2).shuffle(chunks)
    again = b"".join(chunks)
    ends = cdc.cuts(again, True, **SMALL)
    assert [again[a:b] for a, b in zip([0, *ends], ends, strict=False)] == chunks


def test_sizes_that_are_none() -> None:
    for wrong in ({"least": 8}, {"average": 100_000}, {"most": 1}):
        with pytest.raises(ValueError, match="chunk sizes"):
            cdc.cuts(b"", **wrong)


def test_a_byte_more_changes_a_chunk_or_two() -> None:
    data = noise(3, 20 << 20)
    other = data[: 5 << 20] + b"x" + data[5 << 20 :]
    assert len(set(_list(other)[1:]) - set(_list(data)[1:])) <= 2


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
