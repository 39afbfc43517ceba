"""Moments of filters and of images: what is read, and what is refused."""

from __future__ import annotations

import time

import pytest

from boxwood.errors import InvalidArgument
from boxwood.model.moments import moment_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10.5+01:00", 10.5),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("1970-01-01T00:01:00", 60.0),
        ("1960-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
def test_times_of_images(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("1h", 3600),
        ("90s", 90),
        ("1h2m3s", 3723),
        ("0s", 0),
        ("5m", 300),
        ("1.5h", 5400),
        ("300ms", 0),
    ],
)  # fmt: skip
def test_a_duration_is_that_long_ago(text: str, ago: int) -> None:
    assert moment_of(text) == pytest.approx(time.time() - ago, abs=5)


def test_moments() -> None:
    assert moment_of("1700000000.25") == 1700000000.25
    assert moment_of("2024-01-01T00:00:00Z") == 1704067200.0


@pytest.mark.parametrize(
    "text", ["", "soon", "1d", "-5", "h", "1h5", "--1h", "٣", "1h٣m", "9" * 400 + "h"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(InvalidArgument):
        moment_of(text)
