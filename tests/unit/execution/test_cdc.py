"""Where a stream is cut into chunks."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwood_ext import cdc
from tests.support.tars import noise


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


SMALL: dict[str, Any] = {"least": 64, "average": 256, "most": 1024}


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
    data = noise(3, 2 << 20)
    other = data[: 1 << 20] + b"x" + data[1 << 20 :]

    def chunks(whole: bytes) -> set[bytes]:
        ends = cdc.cuts(whole, True)
        return {whole[start:end] for start, end in zip([0, *ends], ends, strict=False)}

    assert len(chunks(other) - chunks(data)) <= 2
