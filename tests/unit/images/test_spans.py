"""What is there of a blob that comes in several places at a time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from boxwood.services.images.spans import Spans


def fresh(tmp_path: Path, size: int, have: int = 0) -> Spans:
    """Return the spans of a file as a daemon finds them."""
    spans = Spans(tmp_path / "blob", size)
    assert spans.restore(have)
    return spans


def test_one_part_has_no_map(tmp_path: Path) -> None:
    """What comes from the start on is told by the file's size alone."""
    spans = fresh(tmp_path, 100, 30)
    assert (spans.prefix, spans.there) == (30, 30)
    span = spans.take()
    assert span is not None
    spans.grew(span, 70)
    spans.give_back(span)
    assert (spans.prefix, spans.there) == (100, 100)
    assert list(tmp_path.iterdir()) == []
    assert spans.take() is None


def test_a_half_is_taken_and_comes_back(tmp_path: Path) -> None:
    """The prefix ends at the first gap; what is whole at the start grows together."""
    spans = fresh(tmp_path, 100)
    first = spans.take()
    assert first is not None
    assert spans.split(60) is None, "no half would be large enough"
    second = spans.split(40)
    assert second is not None
    assert (first.end, second.start, second.end) == (50, 50, 100)
    assert spans.take() is None, "both are being fetched"
    spans.grew(second, 20)
    assert (spans.prefix, spans.there) == (0, 20)
    spans.grew(first, 50)
    spans.give_back(first)
    assert spans.prefix == 70
    assert list(tmp_path.iterdir()) == [], "one part: the file's size says it"


def test_a_part_that_nobody_fetches_goes_on_with_the_one_before(tmp_path: Path) -> None:
    """Only where that one's stream would bring it, and nothing has come yet."""
    spans = fresh(tmp_path, 100)
    first = spans.take()
    assert first is not None
    first.open = True
    second = spans.split(10)
    assert second is not None
    spans.give_back(second)
    assert first.end == 100
    second = spans.split(10)
    assert second is not None
    spans.grew(second, 5)
    spans.give_back(second)
    assert first.end == 50
    assert spans.take() is second


def test_the_map_survives_the_daemon(tmp_path: Path) -> None:
    """What it says is there is not fetched again; it never says too much."""
    spans = fresh(tmp_path, 100 << 20)
    first = spans.take()
    second = spans.split(1 << 20)
    assert first is not None
    assert second is not None
    spans.grew(second, 9 << 20)
    spans.grew(first, 3 << 20)
    again = fresh(tmp_path, 100 << 20, second.at)
    assert again.there == 9 << 20
    assert again.prefix == 0
    took = again.take()
    assert took is not None
    assert (took.at, took.end) == (0, 50 << 20)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "[[0,0,10]]", "[[0,5,3],[3,3,100]]", "[[0,0,60],[50,50,100]]",
        "[[0,0,50],[50,99,100]]", "[[0,-1,50],[50,50,100]]", "[[0,0,50],[50,50,101]]",
        "[[0,0,50,1],[50,50,100]]", '[["0",0,50],[50,50,100]]',
    ],
)  # fmt: skip
def test_a_map_that_cannot_be_true(tmp_path: Path, text: str) -> None:
    """It is not believed: all is fetched."""
    (tmp_path / "blob.spans").write_text(text)
    assert not Spans(tmp_path / "blob", 100).restore(60)


def test_any_order(tmp_path: Path) -> None:
    """However parts are taken, filled, given back and taken up again, no byte is missed or had
    twice, and each map is one that is believed."""
    for seed in range(200):
        chance = random.Random(seed)
        size = chance.randrange(1, 2000)
        file = bytearray(size)
        spans = fresh(tmp_path, size)
        busy = []
        while spans.prefix < size:
            if (span := spans.take() if chance.random() < 0.5 else spans.split(3)) is not None:
                span.open = chance.random() < 0.5
                busy.append(span)
            for span in list(busy):
                count = min(span.left, chance.randrange(50))
                for at in range(span.at, span.at + count):
                    assert not file[at]
                    file[at] = 1
                spans.grew(span, count)
                if not span.left or chance.random() < 0.2:
                    busy.remove(span)
                    spans.give_back(span)
            assert spans.prefix <= (file.find(0) if 0 in file else size)
            assert spans.there == sum(file)
            if chance.random() < 0.05:
                spans.save()
                there = max((at + 1 for at in range(size) if file[at]), default=0)
                spans, busy = fresh(tmp_path, size, there), []
                assert spans.there == sum(file), json.dumps([seed, size])
        assert all(file)
        assert list(tmp_path.iterdir()) == []
