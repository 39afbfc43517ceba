"""Log ``json-file``: the shim's spool is the log; this is what reads it.

A record is one line, ``{"log":"text\\n","stream":"stdout","time":"RFC 3339"}``. When the file has
reached ``max-size`` the shim renames it to ``.1`` (what was ``.1`` to ``.2``, and so on up to
``max-file``) and begins another.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import msgspec

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.log import (
    READS,
    LogDriver,
    LogRecord,
    LogSource,
    ReadOptions,
    Spool,
    raise_unknown_option,
)
from boxwood.errors import DataLoss, InvalidArgument
from boxwood.model.times import parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

CHUNK = 65536
POLL = 0.02
"""Seconds between two looks at a followed file: below what a person notices."""
POLL_IDLE = 0.1
"""The same for a file that has been silent for a while."""

_OPTIONS = {
    "max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode",
    "max-buffer-size",
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class JsonFileLog(LogDriver):
    """Docker's default log."""

    name = "json-file"
    capabilities = frozenset({READS})

    def __init__(self, defaults: Mapping[str, str]) -> None:
        """``defaults`` are the daemon's options for containers that give none of their own."""
        self._defaults = dict(defaults)
        self.validate(self._defaults)

    def validate(self, options: Mapping[str, str]) -> None:
        """Check names and values in Docker's words."""
        for key in options:
            if key not in _OPTIONS:
                raise_unknown_option(key, self.name)
        self._rotation(options)
        if options.get("mode", "blocking") not in ("", "blocking", "non-blocking"):
            raise InvalidArgument(f"logger: logging mode not supported: {options['mode']}")
        if options.get("compress", "false").lower() not in ("false", "0"):
            raise InvalidArgument("log opt 'compress': not supported by this engine")
        _check_tag(options.get("tag", ""))
        for key in ("labels-regex", "env-regex"):
            _compile(options.get(key, ""))

    def spool(self, source: LogSource, options: Mapping[str, str]) -> Spool:
        """Return ``<id>-json.log`` in the container's directory, rotated as the options say."""
        merged = {**self._defaults, **options}
        size, files = self._rotation(merged)
        path = source.directory / f"{source.id}-json.log"
        return Spool(
            path=path, max_size=size, max_files=files, attributes=_attributes(source, merged)
        )

    async def read(
        self,
        source: LogSource,
        options: Mapping[str, str],
        wanted: ReadOptions,
        ended: asyncio.Event,
    ) -> AsyncIterator[LogRecord]:
        """Yield records; see the contract."""
        async for batch in self.read_batches(source, options, wanted, ended):
            for record in batch:
                yield record

    async def read_batches(
        self,
        source: LogSource,
        options: Mapping[str, str],
        wanted: ReadOptions,
        ended: asyncio.Event,
    ) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of each block that was read; see the contract."""
        spool = self.spool(source, options)
        attributes = spool.attributes or None
        with _Files(spool.path) as files:
            if wanted.tail >= 0:
                files.seek_tail(wanted.tail)
            async for lines in _lines(files, wanted.follow, ended):
                batch, past, fault = _batch(lines, attributes, wanted)
                if batch:
                    yield batch
                if fault is not None:
                    raise fault
                if past:
                    return

    def _rotation(self, options: Mapping[str, str]) -> tuple[int, int]:
        size = _bytes(options["max-size"]) if options.get("max-size") else 0
        files = options.get("max-file", "1")
        if not files.isdecimal() or int(files) < 1:
            raise InvalidArgument("max-file cannot be less than 1")
        return size, int(files)


class _Files:
    """The spool and its rotated predecessors, oldest first, as one stream of bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._queue: list[int] = []
        self._current = -1
        self._position = 0
        """Bytes of the current file that were read; the end of a line."""

    def __enter__(self) -> Self:
        self._queue = [fd for fd in map(self._open, self._names()) if fd >= 0]
        self._advance()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _names(self) -> Iterator[str]:
        """Names of all files that there are, oldest first."""
        number = 0
        while os.path.exists(f"{self._path}.{number + 1}"):
            number += 1
        for index in range(number, 0, -1):
            yield f"{self._path}.{index}"
        yield str(self._path)

    def _open(self, name: str) -> int:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return -1
        self._stack.callback(os.close, fd)
        return fd

    def _advance(self) -> bool:
        if not self._queue:
            return False
        self._current, self._position = self._queue.pop(0), 0
        return True

    def seek_tail(self, count: int) -> None:
        """Go to ``count`` records before the end, reading backwards in blocks."""
        files = [self._current, *self._queue] if self._current >= 0 else []
        for index in range(len(files) - 1, -1, -1):
            count, position = _seek_back(files[index], count)
            if count == 0 or index == 0:
                self._current, self._queue = files[index], files[index + 1 :]
                self._position = position
                return

    def read(self) -> bytes:
        """Return the next whole lines in order, empty when there are none now.

        A line that has no end yet is left where it is and read again: on a full disk its writer
        takes it back, and another one stands there.
        """
        while True:
            if self._current < 0 and not self._find_next():
                return b""
            data = self._whole_lines()
            if data:
                self._position += len(data)
                return data
            if self._advance():
                continue
            if not self._find_next():
                return b""

    def _whole_lines(self) -> bytes:
        """Return what stands from the position on, up to the last newline of the block.

        The byte before the position was a newline when it was read. Where it is none now the
        file was emptied, as its rotation with one file does, and begins anew.
        """
        size = CHUNK
        while True:
            before = min(self._position, 1)
            data = os.pread(self._current, size, self._position - before)
            if before and data[:1] != b"\n":
                self._position = 0
                continue
            end = data.rfind(b"\n") + 1
            if end > before or len(data) < size:
                return data[before:end]
            size *= 2  # a line that is longer than a block

    def _find_next(self) -> bool:
        """Whether the current file was rotated away and is at its end: then open what follows.

        The name is looked at first and the file is read again after it: what was written in
        between is not lost.
        """
        try:
            newest = os.stat(self._path)
        except FileNotFoundError:
            return False
        if self._current >= 0:
            here = os.fstat(self._current)
            if here.st_ino == newest.st_ino and here.st_dev == newest.st_dev:
                return False
            if self._whole_lines():
                return True
        self._queue = self._newer()
        return self._advance()

    def _newer(self) -> list[int]:
        """Open every file that is newer than the current one."""
        mine = os.fstat(self._current).st_ino if self._current >= 0 else -1
        opened = [fd for fd in map(self._open, self._names()) if fd >= 0]
        inodes = [os.fstat(fd).st_ino for fd in opened]
        return opened[inodes.index(mine) + 1 :] if mine in inodes else opened


def _seek_back(fd: int, count: int) -> tuple[int, int]:
    """Return how many of the last ``count`` lines a file does not have, and where they begin."""
    position = end = os.fstat(fd).st_size
    if count == 0:
        return 0, _line_start(fd, end)
    wanted = count + 1  # the newline before the first of them
    while position > 0:
        size = min(CHUNK, position)
        position -= size
        block = os.pread(fd, size, position)
        if position + size == end and block[-1:] != b"\n":
            wanted -= 1  # a line that is being written has no newline yet
        found = block.count(b"\n")
        if found >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return 0, position + at + 1
        wanted -= found
    return wanted - 1, 0


def _line_start(fd: int, end: int) -> int:
    """Return where the line begins that has not ended at ``end``; ``end`` if there is none."""
    position = end
    while position > 0:
        size = min(CHUNK, position)
        position -= size
        newline = os.pread(fd, size, position).rfind(b"\n")
        if newline >= 0:
            return position + newline + 1
    return 0


async def _lines(files: _Files, follow: bool, ended: asyncio.Event) -> AsyncIterator[list[bytes]]:
    """Yield the lines of each block, without their newlines."""
    silent = 0
    last = not follow
    while True:
        data = files.read()
        if not data:
            if last:
                return
            last = ended.is_set()  # one more look after it: the last words were written before
            if not last:
                silent += 1
                await _pause(ended, POLL if silent < 100 else POLL_IDLE)
            continue
        silent = 0
        yield data.split(b"\n")
        await asyncio.sleep(0)


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return


def _batch(
    lines: list[bytes], attributes: dict[str, str] | None, wanted: ReadOptions
) -> tuple[list[LogRecord], bool, DataLoss | None]:
    """Return the records that are wanted, whether one was past ``until``, and what is broken."""
    batch: list[LogRecord] = []
    timed = bool(wanted.since or wanted.until)
    for raw in lines:
        if not raw:
            continue
        try:
            record = _record(raw, attributes)
        except DataLoss as error:
            return batch, False, error
        if timed:
            when = parse_rfc3339(record.time)
            if wanted.until and when > wanted.until:
                return batch, True, None
            if when < wanted.since:
                continue
        batch.append(record)
    return batch, False, None


def _record(raw: bytes, attributes: dict[str, str] | None) -> LogRecord:
    try:
        line = _decode(raw)
    except msgspec.DecodeError as error:
        raise DataLoss(f"read log: {raw[:64]!r}: {error}") from error
    return LogRecord(line.stream, line.log.encode(), line.time, attributes)


def _attributes(source: LogSource, options: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, pattern, values in (
        ("labels", "labels-regex", source.labels),
        ("env", "env-regex", source.env),
    ):
        names = {name for name in options.get(key, "").split(",") if name}
        matcher = _compile(options.get(pattern, ""))
        found |= {
            name: value
            for name, value in values.items()
            if name in names or (matcher is not None and matcher.search(name))
        }
    if options.get("tag"):
        found["tag"] = _TAG.sub(lambda match: _TAGS[match[1]](source), options["tag"])
    return found


def _check_tag(tag: str) -> None:
    """Raises InvalidArgument: it has more than plain fields, or one that is not known."""
    unknown = [name for name in _TAG.findall(tag) if name not in _TAGS]
    if unknown:
        raise InvalidArgument(f"log opt 'tag': {tag}: unknown field {unknown[0]}")
    if "{{" in _TAG.sub("", tag):
        raise InvalidArgument(f"log opt 'tag': {tag}: only fields like {{{{.Name}}}} are supported")


_TAG = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_SHORT_ID = 12
_TAGS: Mapping[str, Callable[[LogSource], str]] = {
    "ID": lambda source: source.id[:_SHORT_ID],
    "FullID": lambda source: source.id,
    "Name": lambda source: source.name,
    "FullName": lambda source: f"/{source.name}",
    "ImageID": lambda source: source.image_id.rpartition(":")[2][:_SHORT_ID],
    "ImageFullID": lambda source: source.image_id,
    "ImageName": lambda source: source.image_name,
    "DaemonName": lambda _: "docker",
}
"""What a tag may name, as Docker has it but for the command line."""


def _compile(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error as error:
        raise InvalidArgument(f"log opt: {pattern!r}: not a pattern: {error}") from error


def _bytes(text: str) -> int:
    match = _SIZE.match(text.strip())
    if match is None:
        raise InvalidArgument(f"invalid max-size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


@hookimpl
def log_driver(name: str, options: Mapping[str, str]) -> LogDriver | None:
    """Hand over the driver."""
    return JsonFileLog(options) if name == JsonFileLog.name else None
