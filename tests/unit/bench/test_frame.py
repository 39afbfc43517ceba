"""The frame of the benches: statistics, failures, comparison, the page and the schema."""

from __future__ import annotations

import json
import random
import statistics
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import jsonschema
import msgspec
import pytest

from boxwood.bench import frame, page, text
from boxwood.bench.statistics import median_interval, ratio, spread
from boxwood.errors import InvalidArgument, Unavailable

VOID = {"meta", "rect", "line"}


async def _report(values: dict[str, list[float]], rounds: int = 6) -> frame.Report:
    """A report whose subjects give the values in turn; an empty list fails."""
    run = frame.Run("trial", rounds, 7, list[str]().append)

    def case(subject: str, queue: list[float]) -> frame.Case:
        feed = iter([0.0, *queue])

        async def measure() -> float:
            if not queue:
                raise Unavailable("trial: <b>: no & never")
            return next(feed)

        return frame.Case(frame.Scenario("one", "do <one> thing"), subject, measure)

    await run.measure([case(subject, queue) for subject, queue in values.items()])
    run.leave_out("other on xfs", "mkfs.xfs: not installed")
    return run.report()


def test_interval_holds_the_median_as_often_as_it_says() -> None:
    source = random.Random(5)
    for count in (3, 6, 10, 25):
        hits, said = 0, 0.0
        for _ in range(2000):
            found = median_interval([source.expovariate(1.0) for _ in range(count)])
            hits += found.low <= 0.6931 <= found.high
            said = found.coverage
        assert hits / 2000 == pytest.approx(said, abs=0.02), count
        assert said >= 0.95 or count < 6


def test_interval_of_many_leaves_extremes_out() -> None:
    found = median_interval([float(number) for number in range(1, 26)])
    assert (found.low, found.high) == (8.0, 18.0)  # the textbook's ranks for n = 25
    assert median_interval([4.0]).coverage == 0.0


def test_spread() -> None:
    assert spread([1.0]) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("factor", "count", "significant"), [(1.0, 12, False), (1.5, 12, True), (1.5, 3, False)]
)
def test_ratio(factor: float, count: int, significant: bool) -> None:
    source = random.Random(11)
    old = [source.gauss(1.0, 0.03) for _ in range(count)]
    new = [factor * source.gauss(1.0, 0.03) for _ in range(count)]
    found = ratio(old, new)
    assert found is not None
    assert found.significant is significant
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(statistics.median(new) / statistics.median(old))


def test_ratio_to_nothing() -> None:
    assert ratio([0.0, 0.0], [1.0, 2.0]) is None


async def test_the_first_round_does_not_count_and_failures_are_said() -> None:
    report = await _report({"good": [3.0, 1.0, 2.0, 5.0, 4.0, 6.0], "bad": []})
    good, bad = report.results
    assert good.samples == [3.0, 1.0, 2.0, 5.0, 4.0, 6.0]
    assert good.median == 3.5
    assert bad.error == "trial: <b>: no & never"
    assert bad.samples == []
    shown = text.describe(report)
    assert "failed: trial: <b>: no & never" in shown
    assert "Left out: other on xfs: mkfs.xfs: not installed" in shown
    assert "seed 7" in shown


async def test_order_is_drawn_by_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        asked: list[str] = []
        run = frame.Run("trial", 3, seed, asked.append)

        async def measure() -> float:
            return 1.0

        scenario = frame.Scenario("one", "one")
        await run.measure([frame.Case(scenario, f"s{index}", measure) for index in range(8)])
        orders.append(asked)
    assert orders[0] == orders[1] != orders[2]


async def test_report_fits_the_published_schema(tmp_path: Path) -> None:
    report = await _report({"good": [3.0] * 6, "bad": []})
    schema = json.loads(resources.files("boxwood.bench").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(msgspec.json.encode(report))
    jsonschema.validate(data, schema)
    assert schema["properties"]["schema"]["const"] == frame.SCHEMA
    path = tmp_path / "report.json"
    path.write_bytes(msgspec.json.encode(report))
    assert frame.read_report(path) == report


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"schema": 99}', "has schema 99"),
        (b"{}", "not a report"),
        (b'{"schema": 1}', "not a report"),
        (b"\xff\xfe", "not a report"),
        (None, "No such file"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, data: bytes | None, said: str) -> None:
    path = tmp_path / "old.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InvalidArgument, match=said):
        frame.read_report(path)


async def test_compare_says_what_changed_for_sure() -> None:
    values = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0]
    old = await _report({"same": values, "slow": values, "gone": values})
    new = await _report({"same": values, "slow": [2 * value for value in values], "new": values})
    shown = text.compare(old, new)
    assert "Compared: 2; significantly changed: 1." in shown
    slow = next(line for line in shown.splitlines() if "  slow " in line)
    assert "2.00" in slow
    assert slow.endswith("slower")
    assert "nothing that both" in text.compare(await _report({"x": values}), new)


class _Page(HTMLParser):
    """Checks that tags close in order, and keeps what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_page_stands_alone() -> None:
    report = await _report({"<script>": [3.0] * 6, "plain": [1.0] * 6, "bad": []})
    html = page.render(report)
    parser = _Page()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    tags = [tag for tag, _ in parser.seen]
    assert not {"script", "link", "img", "iframe", "b"} & set(tags)
    assert not any({"href", "src"} & set(attributes) for _, attributes in parser.seen)
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html
    assert tags.count("svg") == tags.count("table") == 1
    assert tags.count("title") == 2  # the page's, and the plot's for who cannot see it
    viewport = next(item for tag, item in parser.seen if item.get("name") == "viewport")
    assert viewport["content"] == "width=device-width, initial-scale=1"
    for tag, attributes in parser.seen:
        if tag == "rect":
            assert 0 < float(attributes["width"] or 0) <= 360


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.00002, "s", "20 µs"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (1234.0, "s", "1234 s"),
        (100, "bytes", "100 B"),
        (5 << 20, "bytes", "5.0 MiB"),
        (3 << 30, "bytes", "3.0 GiB"),
    ],
)
def test_amount(value: float, unit: str, shown: str) -> None:
    assert text.amount(value, unit) == shown
