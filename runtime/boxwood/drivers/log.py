"""The log contract.

Terms
    *record*: one line, or part of a long one, that a container wrote, with its stream and time.
    *spool*: the file in which the shim puts records on disk, in the ``json-file`` form
    (``{"log":…,"stream":…,"time":…}``, one a line), rotated by size. *sink*: where a driver
    brings records beyond the spool.

Life
    The shim writes, the driver follows. A driver says with ``spool`` what the shim shall keep on
    disk. A driver with the capability :data:`FORWARDS` gets ``consume`` called, in a task of the
    engine's, with the records from the offset that it acknowledged last: it may be slow, fail, or
    miss a daemon's restart, and nothing is lost while the spool still holds it. A driver with the
    capability :data:`READS` serves ``read``.

A driver that keeps nothing is ``spool`` returning None, and no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import msgspec

from boxwood.errors import Unsupported

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

READS = "reads"
"""Capability: ``read`` works."""
FORWARDS = "forwards"
"""Capability: ``consume`` is to be run."""


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """What the shim writes.

    Attributes:
        path: the file, below the container's own directory.
        max_size: bytes after which it is rotated; 0: never.
        max_files: how many files are kept in all, the current one too.
        attributes: added to each record as ``attrs`` (labels and environment that were asked for).
    """

    path: Path
    max_size: int = 0
    max_files: int = 1
    attributes: dict[str, str] = {}


class LogSource(msgspec.Struct, frozen=True, kw_only=True):
    """Whose log. ``labels`` and ``env`` are those of the container; ``name`` has no slash."""

    id: str
    name: str
    image_id: str
    image_name: str
    directory: Path
    labels: dict[str, str]
    env: dict[str, str]


class LogRecord(msgspec.Struct, frozen=True):
    """One record.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        data: the bytes as far as the form kept them; ends in a newline unless it is partial.
        time: RFC 3339 with nanoseconds as the spool has it.
        attributes: see :class:`Spool`.
    """

    stream: str
    data: bytes
    time: str
    attributes: dict[str, str] | None = None


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What of a log to read.

    Attributes:
        since: nanoseconds since the epoch, inclusive; 0: from the beginning.
        until: nanoseconds since the epoch, inclusive; 0: no end.
        tail: how many records from the end; -1: all.
        follow: go on until ``ended`` is set and everything is read.
    """

    since: int = 0
    until: int = 0
    tail: int = -1
    follow: bool = False


class LogDriver(ABC):
    """One way to keep logs."""

    name: ClassVar[str]
    capabilities: frozenset[str] = frozenset()

    def validate(self, options: Mapping[str, str]) -> None:
        """Check the options of one container, when it is created.

        Raises:
            InvalidArgument: unknown option, or a value that makes no sense. The default knows no
                option at all.
        """
        for key in options:
            raise_unknown_option(key, self.name)

    @abstractmethod
    def spool(self, source: LogSource, options: Mapping[str, str]) -> Spool | None:
        """Return what the shim shall write for this container, None for nothing."""

    def read(
        self,
        source: LogSource,
        options: Mapping[str, str],
        wanted: ReadOptions,
        ended: asyncio.Event,
    ) -> AsyncIterator[LogRecord]:
        """Iterate over records, oldest first.

        It holds no lock and survives rotation: a file that was rotated away while it was read is
        read to its end. ``ended`` says that nothing will be written any more.

        Raises:
            Unsupported: this driver cannot read (the default).
            DataLoss: a record that is not of the form; those before it were yielded.
        """
        raise Unsupported("configured logging driver does not support reading")

    async def read_batches(
        self,
        source: LogSource,
        options: Mapping[str, str],
        wanted: ReadOptions,
        ended: asyncio.Event,
    ) -> AsyncIterator[list[LogRecord]]:
        """Iterate over what :meth:`read` gives, as many records at a time as are there anyway.

        The engine asks for these: each batch becomes one write to the client. A driver whose
        records come in blocks overrides it; a batch of a few hundred KiB is too large, because
        nobody else is served while the engine turns it into text. The default makes batches of one.
        """
        async for record in self.read(source, options, wanted, ended):
            yield [record]

    async def consume(
        self,
        source: LogSource,
        options: Mapping[str, str],
        records: AsyncIterator[tuple[int, LogRecord]],
        acknowledge: Callable[[int], None],
    ) -> None:
        """Bring records to the sink until ``records`` ends.

        Each comes with the offset to ``acknowledge`` once it is safe; after a failure, or the
        daemon's restart, it is called again from the last acknowledged offset.
        """
        raise Unsupported(f"log: {self.name}: this driver forwards nothing")


def raise_unknown_option(key: str, driver: str) -> None:
    """Refuse an option in Docker's words."""
    from boxwood.errors import InvalidArgument

    raise InvalidArgument(f"unknown log opt '{key}' for {driver} log driver")
