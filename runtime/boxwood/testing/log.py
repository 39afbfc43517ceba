"""The conformance kit of log drivers: what :mod:`boxwood.drivers.log` promises, as tests.

Run it against any installed driver::

    pytest --boxwood-log=NAME --pyargs boxwood.testing.log

or make a class of your own from :class:`LogSuite`. The kit writes what the shim would: records in
the spool that the driver asked for, rotated as it asked. Tests ask a driver's capabilities.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from boxwood.drivers import manager
from boxwood.drivers.log import READS, LogDriver, LogRecord, LogSource, ReadOptions, Spool
from boxwood.errors import DataLoss, Unsupported
from boxwood.testing.plugin import chosen

SECOND = 1_000_000_000
EPOCH = 1_767_225_600
"""2026-01-01T00:00:00Z, the time of the kit's first record; each of the next is a second later."""
DEADLINE = 10.0
"""Seconds for anything that a driver is waited for."""


class Shim:
    """Writes a spool as the engine's shim does."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.count = 0

    def write(self, number: int, stream: str = "stdout") -> None:
        """Append so many records; their text is their number."""
        with self.spool.path.open("a") as file:
            for _ in range(number):
                minutes, seconds = divmod(self.count, 60)
                record = {
                    "log": f"{self.count}\n",
                    "stream": stream,
                    "time": f"2026-01-01T00:{minutes:02d}:{seconds:02d}Z",
                }
                file.write(json.dumps(record) + "\n")
                self.count += 1

    def rotate(self) -> None:
        """Begin another file, keeping as many as the spool says."""
        path = self.spool.path
        for number in range(self.spool.max_files - 1, 0, -1):
            older = Path(f"{path}.{number - 1}") if number > 1 else path
            if older.exists():
                os.rename(older, f"{path}.{number}")


class LogSuite:
    """What every log driver does. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, str]] = {}
    """Options of the container's log."""
    rotation: ClassVar[Mapping[str, str]] = {}
    """Options that make the driver ask for at least three files; empty: it cannot."""

    @pytest.fixture
    def driver(self) -> LogDriver:
        """A fresh driver."""
        driver = manager.select("log", self.driver_name, options={})
        assert isinstance(driver, LogDriver)
        return driver

    @pytest.fixture
    def source(self, tmp_path: Path) -> LogSource:
        """A container."""
        return LogSource(
            id="c0" * 32, name="kit", image_id="sha256:0", image_name="kit",
            directory=tmp_path, labels={}, env={},
        )  # fmt: skip

    @pytest.fixture
    def shim(self, driver: LogDriver, source: LogSource) -> Shim:
        """What writes the log; skips for a driver that reads nothing from a spool."""
        spool = driver.spool(source, self.options)
        if READS not in driver.capabilities or spool is None:
            pytest.skip("the driver reads no spool")
        return Shim(spool)

    def read(
        self,
        driver: LogDriver,
        source: LogSource,
        options: Mapping[str, str] | None = None,
        **wanted: Any,
    ) -> list[int]:
        """Return the numbers of the records that are wanted, both ways of reading agreeing."""

        async def both() -> list[list[LogRecord]]:
            asked, ended = ReadOptions(**wanted), asyncio.Event()
            given = self.options if options is None else options
            batches = driver.read_batches(source, given, asked, ended)
            async with asyncio.timeout(DEADLINE):
                return [
                    [record async for record in driver.read(source, given, asked, ended)],
                    [record async for batch in batches for record in batch],
                ]

        single, batched = asyncio.run(both())
        assert single == batched
        return [int(record.data) for record in single]

    def test_the_spool_is_below_the_container(self, driver: LogDriver, source: LogSource) -> None:
        """And the same whenever it is asked for."""
        driver.validate(self.options)
        spool = driver.spool(source, self.options)
        assert driver.spool(source, self.options) == spool
        if spool is not None:
            assert spool.path.is_relative_to(source.directory)
            assert spool.max_files >= 1

    def test_one_that_cannot_read_says_so(self, driver: LogDriver, source: LogSource) -> None:
        """Unsupported, as its capabilities have it."""
        if READS in driver.capabilities:
            pytest.skip("it reads")
        with pytest.raises(Unsupported):
            self.read(driver, source)

    def test_an_empty_log(self, driver: LogDriver, source: LogSource, shim: Shim) -> None:
        """No file yet, and an empty one, are no records."""
        assert self.read(driver, source) == []
        shim.write(0)
        assert self.read(driver, source) == []

    def test_all_of_it_and_its_end(self, driver: LogDriver, source: LogSource, shim: Shim) -> None:
        """Oldest first; the tail may be longer than the log."""
        shim.write(20)
        everything = list(range(20))
        assert self.read(driver, source) == everything
        for tail in (0, 1, 19, 20, 21):
            assert self.read(driver, source, tail=tail) == everything[20 - min(tail, 20) :]

    def test_times_are_inclusive(self, driver: LogDriver, source: LogSource, shim: Shim) -> None:
        """Both of them."""
        shim.write(20)
        first, last = (EPOCH + 5) * SECOND, (EPOCH + 9) * SECOND
        assert self.read(driver, source, since=first, until=last) == [5, 6, 7, 8, 9]

    def test_rotated_files_are_one_log(
        self, driver: LogDriver, source: LogSource, shim: Shim
    ) -> None:
        """Read in order, and the tail counts across them."""
        if not self.rotation:
            pytest.skip("the suite names no options for it")
        spool = driver.spool(source, self.rotation)
        assert spool is not None
        assert spool.max_files >= 3
        shim.spool = spool
        for _ in range(3):
            shim.write(10)
            shim.rotate()
        shim.write(5)
        kept = list(range(35 - 5 - 10 * (spool.max_files - 1), 35))
        assert self.read(driver, source, self.rotation) == kept
        assert self.read(driver, source, self.rotation, tail=12) == kept[-12:]

    def test_a_broken_record_is_loss_after_the_whole_ones(
        self, driver: LogDriver, source: LogSource, shim: Shim
    ) -> None:
        """Those before it come, then DataLoss."""
        shim.write(3)
        with shim.spool.path.open("a") as file:
            file.write('{"log": nonsense\n')
        shim.write(1)

        async def read() -> list[int]:
            found = []
            records = driver.read(source, self.options, ReadOptions(), asyncio.Event())
            try:
                async for record in records:
                    found.append(int(record.data))  # noqa: PERF401 - kept when it raises
            except DataLoss:
                return found
            pytest.fail("a record that is none was passed over")

        assert asyncio.run(read()) == [0, 1, 2]

    def test_following_ends_with_the_last_words(
        self, driver: LogDriver, source: LogSource, shim: Shim
    ) -> None:
        """What is written while it is followed comes, rotation or not, up to the end."""
        shim.write(3)

        async def follow() -> list[int]:
            ended, found = asyncio.Event(), []
            wanted = ReadOptions(follow=True)
            async with asyncio.timeout(DEADLINE):
                async for record in driver.read(source, self.options, wanted, ended):
                    found.append(int(record.data))
                    if len(found) == 3:
                        shim.write(2)
                    if len(found) == 5:
                        shim.write(4)
                        ended.set()
            return found

        assert asyncio.run(follow()) == list(range(9))


class TestLog(LogSuite):
    """The driver that ``--boxwood-log`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).options = chosen(request, "log")
