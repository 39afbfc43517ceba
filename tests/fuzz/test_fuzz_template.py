"""A while of fuzzing the templates of ``--format`` with every run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.fuzz.fuzz_template import target

CORPUS = Path(__file__).parent / "corpus" / "template"


def mutate(source: random.Random, data: bytes, other: bytes) -> bytes:
    """Change a few bytes, repeat or drop pieces, and put in pieces of another input."""
    out = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at, length = source.randrange(len(out) + 1), source.randint(0, 8)
        start = source.randrange(len(other) + 1)
        out[at : at + source.choice((0, length))] = source.choice(
            (other[start : start + length], source.randbytes(length), out[at : at + length], b"")
        )
    return bytes(out)


@pytest.mark.property
def test_mutated_templates(fuzz_random: random.Random, fuzz_seconds: float) -> None:
    corpus = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    assert corpus
    end = time.monotonic() + fuzz_seconds
    while time.monotonic() < end:
        data = mutate(fuzz_random, fuzz_random.choice(corpus), fuzz_random.choice(corpus))
        try:
            target(data)
        except BaseException:
            print(f"the input: {data!r}")
            raise
