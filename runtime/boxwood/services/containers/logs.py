"""Logs as a client asks for them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from boxwood.drivers.log import READS, LogRecord, ReadOptions
from boxwood.errors import InvalidArgument, Unsupported
from boxwood.model.times import parse_rfc3339, rfc3339_fixed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from boxwood.model.container import Container
    from boxwood.model.request import LogOptions
    from boxwood.services.containers.context import Context

_STREAMS = {"stdout": 1, "stderr": 2}
_FRAME = struct.Struct(">BxxxI")


def frame(stream: int, data: bytes) -> bytes:
    """Return ``data`` behind Docker's header (1: stdout, 2: stderr, 3: the engine's error)."""
    return _FRAME.pack(stream, len(data)) + data


class LogReader:
    """Reads through the container's log driver."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def read(self, container: Container, options: LogOptions) -> AsyncIterator[bytes]:
        """Return the pieces to send: framed unless the container has a terminal.

        Raises:
            InvalidArgument: no stream is asked for. Unsupported: the driver cannot read.
        """
        if not (options.stdout or options.stderr):
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        self.check(container)
        driver, source, driver_options = self._context.log_of(container)
        live = self._context.live.get(container.id)
        ended = live.ended if live is not None else self._context.of(container.id).ended
        wanted = ReadOptions(
            since=options.since,
            until=options.until,
            tail=options.tail,
            follow=options.follow,
        )
        batches = driver.read_batches(source, driver_options, wanted, ended)
        return self._pieces(batches, options, framed=not container.config.tty)

    def check(self, container: Container) -> None:
        """Raise Unsupported: the container's log cannot be read."""
        if READS not in self._context.log_of(container)[0].capabilities:
            raise Unsupported("configured logging driver does not support reading")

    async def _pieces(
        self, batches: AsyncIterator[list[LogRecord]], options: LogOptions, framed: bool
    ) -> AsyncIterator[bytes]:
        streams = {name for name in _STREAMS if getattr(options, name)}
        async for batch in batches:
            piece = bytearray()
            for record in batch:
                if record.stream in streams:
                    data = _line(record, options)
                    piece += frame(_STREAMS[record.stream], data) if framed else data
            if piece:
                yield bytes(piece)


def _line(record: LogRecord, options: LogOptions) -> bytes:
    prefix = ""
    if options.timestamps:
        prefix = rfc3339_fixed(parse_rfc3339(record.time)) + " "
    if options.details:
        pairs = sorted((record.attributes or {}).items())
        prefix += ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs) + " "
    return prefix.encode() + record.data if prefix else record.data
