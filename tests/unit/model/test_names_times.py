"""Names, ids, times, sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument
from boxwood.model import ids, names, times
from boxwood.model.sizes import parse_size


def test_ids() -> None:
    made = {ids.new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(ids.is_id(one) and not ids.short(one).isdecimal() for one in made)
    assert not ids.is_id("x" * 64)
    assert ids.short("sha256:" + "ab" * 32) == "ab" * 6


@pytest.mark.parametrize("name", ["ab", "/ab", "a.b-c_d", "0x"])
def test_good_names(name: str) -> None:
    assert names.check_name(name) == name.lstrip("/")


@pytest.mark.parametrize("name", ["", "a", "/", "-ab", "a b", "//ab", "ab\n", ".ab", "é"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        names.check_name(name)


def test_made_up_names_are_good_and_get_a_digit_on_retry() -> None:
    assert names.check_name(names.random_name())
    assert names.random_name(1)[-1].isdecimal()


@given(st.integers(min_value=1, max_value=4 * 10**18))
def test_times_there_and_back(value: int) -> None:
    assert times.parse_rfc3339(times.rfc3339(value)) == value
    assert times.parse_rfc3339(times.rfc3339_fixed(value)) == value


def test_times() -> None:
    assert times.rfc3339(0) == times.NEVER
    assert times.rfc3339(1_500_000_000_120_000_000) == "2017-07-14T02:40:00.12Z"
    assert times.rfc3339_fixed(1_500_000_000_000_000_000) == "2017-07-14T02:40:00.000000000Z"
    assert times.parse_rfc3339("2017-07-14T04:40:00+02:00") == 1_500_000_000_000_000_000
    assert times.parse_timestamp("1500000000.5") == 1_500_000_000_500_000_000
    assert times.parse_timestamp("") == 0
    for wrong in ("x", "2017-07-14", "1e3", "12:00"):
        with pytest.raises(InvalidArgument):
            times.parse_timestamp(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10", 10), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2kb", 2048), ("1 T", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1mm", "0x10"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(text)
