"""Reading json-file logs: tail, times, rotation, following."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from boxwood.drivers.log import LogRecord, LogSource, ReadOptions
from boxwood.drivers.manager import select
from boxwood.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from boxwood_plugins.log.json_file import JsonFileLog
from boxwood_plugins.log.none import NoLog

ID = "c" * 64


def source(directory: Path, **more: object) -> LogSource:
    values: dict[str, object] = {"labels": {}, "env": {}, **more}
    return LogSource(
        id=ID,
        name="n",
        image_id="",
        image_name="",
        directory=directory,
        **values,  # type: ignore[arg-type]
    )


def path_of(directory: Path) -> Path:
    return directory / f"{ID}-json.log"


def line(number: int, stream: str = "stdout") -> str:
    time = f"2026-01-01T00:00:{number // 100:02d}.{number % 100:02d}Z"
    return json.dumps({"log": f"{number}\n", "stream": stream, "time": time}) + "\n"


def write(path: Path, first: int, last: int) -> None:
    with path.open("a") as file:
        file.writelines(line(number) for number in range(first, last))


async def read(
    directory: Path, ended: asyncio.Event | None = None, **wanted: object
) -> list[LogRecord]:
    ended = ended or asyncio.Event()
    options = ReadOptions(**wanted)  # type: ignore[arg-type]
    records = JsonFileLog({}).read(source(directory), {}, options, ended)
    return [record async for record in records]


def numbers(records: list[LogRecord]) -> list[int]:
    return [int(record.data) for record in records]


async def test_all_of_it_oldest_first_across_rotated_files(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    write(Path(f"{path}.2"), 0, 10)
    write(Path(f"{path}.1"), 10, 20)
    write(path, 20, 30)
    assert numbers(await read(tmp_path)) == list(range(30))


@pytest.mark.parametrize("tail", [0, 1, 5, 10, 11, 25, 30, 31, 1000])
async def test_tail(tmp_path: Path, tail: int) -> None:
    path = path_of(tmp_path)
    write(Path(f"{path}.2"), 0, 10)
    write(Path(f"{path}.1"), 10, 20)
    write(path, 20, 30)
    assert numbers(await read(tmp_path, tail=tail)) == list(range(30))[30 - min(tail, 30) :]


async def test_tail_of_a_large_file(tmp_path: Path) -> None:
    write(path_of(tmp_path), 0, 5000)
    assert numbers(await read(tmp_path, tail=3000)) == list(range(2000, 5000))


async def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    write(path_of(tmp_path), 0, 3)
    with path_of(tmp_path).open("a") as file:
        file.write(line(3)[:-1])
    assert numbers(await read(tmp_path)) == [0, 1, 2]


async def test_a_piece_that_is_taken_back_was_never_there(tmp_path: Path) -> None:
    """A full disk: the writer cuts its entry off again, and later writes another one there."""
    path = path_of(tmp_path)
    write(path, 0, 3)
    whole = path.stat().st_size
    with path.open("a") as file:
        file.write(line(3)[:-10])
    ended = asyncio.Event()
    records = JsonFileLog({}).read(source(tmp_path), {}, ReadOptions(follow=True), ended)
    got = [int((await anext(records)).data) for _ in range(3)]
    following = asyncio.ensure_future(anext(records))
    await asyncio.sleep(0.1)  # it reads on meanwhile, and must not keep the piece
    os.truncate(path, whole)
    write(path, 7, 9)
    got.append(int((await following).data))
    ended.set()
    got += [int(record.data) async for record in records]
    assert got == [0, 1, 2, 7, 8]


async def test_a_line_longer_than_a_block(tmp_path: Path) -> None:
    text = "x" * 300_000
    with path_of(tmp_path).open("w") as file:
        file.write(json.dumps({"log": text, "stream": "stdout", "time": "2026-01-01T00:00:00Z"}))
        file.write("\n" + line(1))
    first, second = await read(tmp_path)
    assert (first.data, second.data) == (text.encode(), b"1\n")


async def test_a_file_that_is_emptied_begins_anew(tmp_path: Path) -> None:
    """Rotation with one file; what came since is longer than what was read."""
    path = path_of(tmp_path)
    write(path, 0, 5)
    ended = asyncio.Event()
    records = JsonFileLog({}).read(source(tmp_path), {}, ReadOptions(follow=True), ended)
    got = [int((await anext(records)).data) for _ in range(5)]
    os.truncate(path, 0)
    write(path, 1000, 1100)
    ended.set()
    got += [int(record.data) async for record in records]
    assert got == [0, 1, 2, 3, 4, *range(1000, 1100)]


async def test_since_and_until(tmp_path: Path) -> None:
    write(path_of(tmp_path), 0, 300)
    epoch = 1_767_225_600 * 10**9
    found = await read(tmp_path, since=epoch + 10**9, until=epoch + 2 * 10**9)
    assert numbers(found) == list(range(100, 201))


async def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert await read(tmp_path) == []


async def test_what_is_no_record_is_said(tmp_path: Path) -> None:
    path_of(tmp_path).write_text(line(0) + "garbage\n")
    with pytest.raises(DataLoss):
        await read(tmp_path)


async def test_following_survives_rotation_and_loses_nothing(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    ended = asyncio.Event()
    reading = asyncio.ensure_future(read(tmp_path, ended, follow=True))
    number = 0
    for _ in range(6):
        for _ in range(5):
            write(path, number, number + 10)
            number += 10
            await asyncio.sleep(0.005)
        for old in (2, 1):
            if os.path.exists(f"{path}.{old}"):
                os.rename(f"{path}.{old}", f"{path}.{old + 1}")
        os.rename(path, f"{path}.1")
    write(path, number, number + 1)
    ended.set()
    assert numbers(await reading) == list(range(number + 1))


async def test_following_ends_when_the_container_has(tmp_path: Path) -> None:
    ended = asyncio.Event()
    reading = asyncio.ensure_future(read(tmp_path, ended, follow=True))
    await asyncio.sleep(0.05)
    assert not reading.done()
    write(path_of(tmp_path), 0, 1)
    ended.set()
    assert numbers(await reading) == [0]


async def test_attributes_come_from_labels_and_environment(tmp_path: Path) -> None:
    write(path_of(tmp_path), 0, 1)
    who = source(tmp_path, labels={"a": "1", "b": "2", "xy": "3"}, env={"E": "4", "F": "5"})
    options = {"labels": "a", "labels-regex": "^x", "env": "E"}
    records = JsonFileLog({}).read(who, options, ReadOptions(), asyncio.Event())
    assert [record.attributes async for record in records] == [{"a": "1", "xy": "3", "E": "4"}]


@pytest.mark.parametrize(
    "options",
    [
        {"bogus": "1"},
        {"max-size": "much"},
        {"max-file": "0", "max-size": "1m"},
        {"mode": "sometimes"},
        {"compress": "true", "max-size": "1m"},
        {"labels-regex": "("},
        {"tag": "{{upper .Name}}"},
        {"tag": "{{.Nonsense}}"},
    ],
)
def test_bad_options(options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        JsonFileLog({}).validate(options)


def test_rotation_from_the_options(tmp_path: Path) -> None:
    spool = JsonFileLog({}).spool(source(tmp_path), {"max-size": "10k", "max-file": "3"})
    assert (spool.max_size, spool.max_files) == (10240, 3)
    assert spool.path == path_of(tmp_path)


def test_none_keeps_nothing_and_cannot_be_read(tmp_path: Path) -> None:
    driver = select("log", "none", options={})
    assert isinstance(driver, NoLog)
    assert driver.spool(source(tmp_path), {}) is None
    with pytest.raises(Unsupported, match="does not support reading"):
        driver.read(source(tmp_path), {}, ReadOptions(), asyncio.Event())


def test_an_unknown_driver() -> None:
    with pytest.raises(NotFound):
        select("log", "nope", options={})
