"""Chunks of layers: the jobs that list, compare, send and join them.

A *list* names the chunks of a tar in their order: :data:`MAGIC`, and for each its length and the
XXH3 of its bytes (128 bits). Equal entries are taken for equal bytes; that they are is known when
the whole tar has its SHA-256, and only then anything is made of it. A *plan* says what a tar is
put together of: ranges of what comes, and of what is here.
"""

from __future__ import annotations

import bisect
import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO, Any, Self, cast

import xxhash
import zstandard

from boxwood.errors import DataLoss, InvalidArgument, TooLarge
from boxwood.execution.worker_decompress import CHUNK
from boxwood_ext import cdc

MAGIC = b"boxwood chunks 1\n"
_ENTRY = struct.Struct("<I16s")
_RANGE = struct.Struct("<BQQ")
_SOURCE = 56
"""Bit from which on the place of a chunk says where: below it is the offset there."""
LIST_LIMIT = 32 << 20
"""Bytes of a list: 1.6 million chunks, some 15 GB of tar. In place of a longer one an empty file is
written, and such a layer travels whole. What is here is compared as far as that many chunks go:
each takes some 200 bytes of memory meanwhile."""
READ = 4 << 20
"""Bytes looked at together: what is carried over between two is a hundredth of it. A quarter was
half as fast."""
LEVEL = 3
"""Of zstd, as for layers."""
WINDOW = 8 << 20
"""Bytes of window that a frame may ask for, and that ours ask for: RFC 8878 section 3.1.1.1.2."""
COMING, PARTIAL = 0, 1
"""Sources of a plan's ranges; further ones are layers that are here, in the order of the job."""


def chunk_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write the list of a stream's chunks.

    Descriptors: the tar, read to its end; where to write, an empty file. Arguments: ``limit``, of
    the list's bytes: beyond it nothing is written. Answers ``size`` and ``whole``: bytes up to the
    last cut that its content made, 0 where nothing is written.
    """
    limit = arguments.get("limit", LIST_LIMIT)
    out = os.fdopen(os.dup(fds[1]), "wb")
    room = bytearray(READ + cdc.MAXIMUM)
    view = memoryview(room)
    held = size = whole = 0
    with out:
        out.write(MAGIC)
        while True:
            count = os.readv(fds[0], [view[held : held + READ]])
            size += count
            end = held + count
            start = 0
            for cut in cdc.cuts(view[:end], count == 0):
                out.write(_ENTRY.pack(cut - start, xxhash.xxh3_128_digest(view[start:cut])))
                whole += cut - start if count else 0
                start = cut
            if out.tell() > limit:
                out.truncate(0)
                return {"size": size + _drained(fds[0]), "whole": 0}
            if not count:
                return {"size": size, "whole": whole}
            held = end - start
            room[:held] = room[start:end]


def _drained(fd: int) -> int:
    """Read a pipe to its end; returns the bytes that came."""
    size = 0
    while piece := os.read(fd, CHUNK):
        size += len(piece)
    return size


def _entries(fd: int) -> Iterator[tuple[int, bytes]]:
    """Yield length and print of each chunk of a list; raises InvalidArgument, TooLarge.

    An empty one stands for a list that would be too long.
    """
    if not os.fstat(fd).st_size:
        return
    data = os.pread(fd, LIST_LIMIT + 1, 0)
    if len(data) > LIST_LIMIT:
        raise TooLarge(f"chunks: a list of more than {LIST_LIMIT} bytes")
    if not data.startswith(MAGIC) or (len(data) - len(MAGIC)) % _ENTRY.size:
        raise InvalidArgument("chunks: not a list of chunks, or of another version")
    for length, mark in _ENTRY.iter_unpack(data[len(MAGIC) :]):
        if not 0 < length <= cdc.MAXIMUM:
            raise InvalidArgument(f"chunks: a chunk of {length} bytes")
        yield length, mark


def match_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Compare a list with those of what is here.

    Descriptors: the list; where the plan is written; where a bit for each chunk is written, set
    where it has to come (the lowest bit of a byte is the first); lists of what is here, the first
    one that of the partial. Arguments: ``size``, which the chunks must add up to; ``limit``, of
    the bytes of lists that are held. Answers ``wanted`` (bytes that have to come) and ``used``
    (bytes that each list gives).

    Raises:
        InvalidArgument: a list that is none, or adds up to something else.
    """
    here: dict[bytes, int] = {}
    most = arguments.get("limit", LIST_LIMIT) // _ENTRY.size
    for source, fd in enumerate(fds[3:], PARTIAL):
        offset = 0
        for length, mark in _entries(fd):
            if len(here) == most:
                break
            here.setdefault(_key(length, mark), source << _SOURCE | offset)
            offset += length
    plan = _Plan()
    bits = bytearray()
    used = [0] * len(fds[2:])
    total = 0
    for at, entry in enumerate(_entries(fds[0])):
        if at % 8 == 0:
            bits.append(0)
        place = here.get(_key(*entry), used[COMING])
        source, offset = place >> _SOURCE, place & ~(-1 << _SOURCE)
        if source == COMING:
            bits[-1] |= 1 << at % 8
        used[source] += entry[0]
        total += entry[0]
        plan.add(source, offset, entry[0])
    if total != arguments["size"]:
        raise InvalidArgument(f"chunks: they are {total} bytes, not {arguments['size']}")
    _write(fds[1], plan.packed())
    _write(fds[2], bytes(bits))
    return {"wanted": used[COMING], "used": used[PARTIAL:]}


def _key(length: int, mark: bytes) -> bytes:
    """Return one small value for both: there are millions."""
    return _ENTRY.pack(length, mark)


class _Plan:
    """Ranges as they are written: there may be a million."""

    def __init__(self) -> None:
        self._done = bytearray()
        self._last = (COMING, 0, 0)

    def add(self, source: int, offset: int, length: int) -> None:
        """Add a range, or make the last one longer where it goes on in the same place."""
        before, at, size = self._last
        if source == before and at + size == offset:
            self._last = (source, at, size + length)
        else:
            self._close()
            self._last = (source, offset, length)

    def packed(self) -> bytes:
        """Return all of them."""
        self._close()
        return bytes(self._done)

    def _close(self) -> None:
        if self._last[2]:
            self._done += _RANGE.pack(*self._last)
        self._last = (COMING, 0, 0)


def send_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Compress a tar, or those of its chunks that are asked for, to one zstd frame.

    Descriptors: the tar; where to write; and for chunks its list and the bits of
    :func:`match_layer`. Answers ``size``: bytes before compression.
    """
    del arguments
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW.bit_length() - 1
    )
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    size = 0
    for piece in _picked(fds[0], _asked(*fds[2:]) if len(fds) > 2 else [(0, 1 << 62)]):
        size += len(piece)
        _write(fds[1], made.compress(piece))
    _write(fds[1], made.flush())
    return {"size": size}


def _asked(chunks: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the chunks whose bits are set; what lies side by side is one."""
    wanted = os.pread(bits, LIST_LIMIT, 0)
    start = at = 0
    for index, (length, _) in enumerate(_entries(chunks)):
        if not (index // 8 < len(wanted) and wanted[index // 8] >> index % 8 & 1):
            if at > start:
                yield start, at
            start = at + length
        at += length
    if at > start:
        yield start, at


def _picked(fd: int, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield what lies in ranges, ascending, of a stream; it is read to its end."""
    at = 0
    for start, end in ranges:
        while at < end and (piece := os.read(fd, min(CHUNK, (start if at < start else end) - at))):
            if at >= start:
                yield piece
            at += len(piece)
    # Who makes a tar again says at its end whether it has become the right one.
    _drained(fd)


def join_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Put a tar together of what comes and of what is here.

    Descriptors: the plan; the zstd frame of what comes; where to write; the partial, a file, to
    which is appended what comes; an empty file; the tars that the plan names, from its source 2
    on. Arguments: none. Answers ``size``.

    Raises:
        InvalidArgument: what comes is no such frame, or more, or less.
        DataLoss: a tar that is here is shorter than it was.
    """
    plan = list(_RANGE.iter_unpack(_whole(fds[0]))) or [(COMING, 0, arguments["size"])]
    here = _Here(plan, fds[3], fds[4], fds[5:])
    size = 0
    with _Coming(fds[1]) as coming:
        for source, offset, length in plan:
            size += length
            for piece in (
                coming.take(length) if source == COMING else here.take(source, offset, length)
            ):
                if source == COMING:
                    _write(fds[3], piece)
                _write(fds[2], piece)
        coming.finish()
    return {"size": size}


class _Here:
    """The ranges of what is here: those of tars are gathered in a file, for they come in order."""

    def __init__(
        self, plan: list[tuple[int, int, int]], partial: int, pool: int, tars: list[int]
    ) -> None:
        self._partial, self._pool = partial, pool
        self._spans: list[list[tuple[int, int, int]]] = []
        """For each tar: start and end of what was gathered, and where that is in the pool."""
        filled = 0
        for source, tar in enumerate(tars, PARTIAL + 1):
            spans = []
            for start, end in _union((at, at + size) for one, at, size in plan if one == source):
                spans.append((start, end, filled))
                filled += end - start
            for piece in _picked(tar, [span[:2] for span in spans]):
                _write(pool, piece)
            self._spans.append(spans)
        if os.fstat(pool).st_size != filled:
            raise DataLoss("join layer: a layer that is here is shorter than its list")

    def take(self, source: int, offset: int, length: int) -> Iterator[bytes]:
        """Yield a range's bytes; raises DataLoss."""
        fd = self._partial
        if source != PARTIAL:
            spans, fd = self._spans[source - PARTIAL - 1], self._pool
            start, _, place = spans[bisect.bisect_right(spans, (offset, 1 << 62, 0)) - 1]
            offset += place - start
        while length:
            piece = os.pread(fd, min(CHUNK, length), offset)
            if not piece:
                raise DataLoss("join layer: what is here was cut short on disk")
            yield piece
            offset += len(piece)
            length -= len(piece)


def _union(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, those that touch as one."""
    done: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if done and start <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((start, end))
    return done


class _Coming:
    """The frame, decompressed no further than is asked for."""

    def __init__(self, fd: int) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        self._file = os.fdopen(os.dup(fd), "rb", buffering=0)
        source = cast(IO[bytes], self._file)
        self._stream = decompressor.stream_reader(source, read_size=CHUNK, closefd=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except zstandard.ZstdError as error:
            raise InvalidArgument(f"join layer: what comes: {error}") from error

    def take(self, length: int) -> Iterator[bytes]:
        """Yield so many bytes; raises InvalidArgument."""
        while length:
            piece = self._read(min(CHUNK, length))
            if not piece:
                raise InvalidArgument("join layer: what comes ends too early")
            length -= len(piece)
            yield piece

    def finish(self) -> None:
        """Read to the end of the pipe; raises InvalidArgument unless the frame was all."""
        if self._read(1) or self._file.read(1):
            raise InvalidArgument("join layer: more comes than was asked for")


def _whole(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
