"""Streams as they come to the jobs on archives: counted, digested and decompressed in pieces.

Nothing here holds more than a few pieces at a time, whatever the stream does.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import IO, Protocol, cast

import zstandard
from isal import igzip_lib

from boxwood.errors import InvalidArgument
from boxwood.model.damage import XZ_MEMORY, ZSTD_WINDOW, damage
from boxwood.model.growing import ALL, heard

CHUNK = 256 << 10
"""Bytes read at once: from here on hashlib and the decompressors let go of the GIL for long."""

_GZIP_PIECE = 64 << 10
"""Compressed bytes given to the gzip decoder at once; more only lie in its memory."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_QUEUE = 16
"""Pieces that wait for the digests."""

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (_ZSTD_MAGIC, "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


class Hasher(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the digest so far."""


def hasher_for(wanted: str) -> tuple[str, Hasher]:
    """Return the algorithm that a digest names, and a hasher of it; ``sha256`` for none.

    Raises:
        InvalidArgument: another algorithm than SHA-256 and SHA-512.
    """
    algorithm = wanted.partition(":")[0] or "sha256"
    if algorithm not in ("sha256", "sha512"):
        raise InvalidArgument(f"digest: {wanted[:80]}: neither sha256 nor sha512")
    return algorithm, cast(Hasher, hashlib.new(algorithm))


class Digester(threading.Thread):
    """Feeds hashers beside the rest of the work, in the order of :meth:`update`.

    It never fails half way: what a hasher raises comes out of :meth:`finish`.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._work: queue.Queue[tuple[Hasher, bytes] | None] = queue.Queue(_QUEUE)
        self._error: BaseException | None = None
        self.start()

    def update(self, hasher: Hasher, data: bytes) -> None:
        """Hand over a piece; waits while too many wait."""
        self._work.put((hasher, data))

    def run(self) -> None:
        """Serve until the end; after an error only take."""
        while (item := self._work.get()) is not None:
            try:
                if self._error is None:
                    item[0].update(item[1])
            except BaseException as error:  # noqa: BLE001 - kept for finish()
                self._error = error

    def finish(self) -> None:
        """Wait until all is digested."""
        if self.is_alive():
            self._work.put(None)
            self.join()
        if self._error is not None:
            raise self._error


def compression_of(head: bytes) -> str:
    """Return the compression that the first bytes show; an empty string: none."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    # A skippable frame may come first in zstd (RFC 8878, 3.1.2).
    if len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return ""


class Source:
    """The stream as it comes: counted, and shown to ``watch`` piece by piece.

    ``growing``: ``fd`` is a file, read from its start, that somebody still writes, and this a pipe:
    it says how much of the file is there (:mod:`boxwood.model.growing`). -1: ``fd`` itself does.
    """

    def __init__(self, fd: int, watch: Callable[[bytes], None], growing: int = -1) -> None:
        self._fd = fd
        self._growing = growing
        self._there = 0 if growing >= 0 else ALL
        self._read = 0
        self._head = b""
        self._watch = watch
        self.taken = 0

    def peek(self) -> bytes:
        """Return the first bytes, which the next read gives again."""
        while len(self._head) < 8 and (data := self._more()):
            self._head += data
        return self._head[:8]

    def _more(self) -> bytes:
        while self._read >= self._there:
            self._there = heard(self._growing)
        data = os.read(self._fd, min(CHUNK, self._there - self._read))
        self._read += len(data)
        return data

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next bytes, nothing at the end."""
        data, self._head = self._head, b""
        if not data:
            data = self._more()
        if len(data) > size:
            data, self._head = data[:size], data[size:]
        self.taken += len(data)
        self._watch(data)
        return data


def _gzip(source: Source) -> Iterator[bytes]:
    """Members one after the other, zeros after the last one."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    while data := source.read():
        for start in range(0, len(data), _GZIP_PIECE):
            piece = data[start : start + _GZIP_PIECE]
            while piece:
                if member.eof:
                    piece = piece.lstrip(b"\0")
                    if not piece:
                        break
                    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                # Never more than a piece at once, however much a bomb has in store.
                yield member.decompress(piece, CHUNK)
                while not member.eof and not member.needs_input:
                    yield member.decompress(b"", CHUNK)
                piece = member.unused_data if member.eof else b""
    if not member.eof:
        raise EOFError


def _zstd(source: Source) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frames = _Frames(source)
    with decompressor.stream_reader(
        cast(IO[bytes], frames), read_size=CHUNK, read_across_frames=True, closefd=False
    ) as reader:
        while data := reader.read(CHUNK):
            yield data
    if not frames.whole:
        raise EOFError


class _Frames:
    """Follows the frames of a zstd stream (RFC 8878, 3.1) from header to header.

    The library's reader takes the end of the stream for the end of the content, wherever it
    comes, and the other one of its interfaces gives out all that a bomb holds at once.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._steps = self._walk()
        self._need = next(self._steps)
        self._have = b""
        self._skip = 0
        self.whole = True
        """Does the stream stand between two frames?"""

    def read(self, size: int) -> bytes:
        """Return what the source gives, and look where its headers lead."""
        data = self._source.read(size)
        self._follow(data)
        return data

    def _follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._skip:
                part = min(self._skip, len(data) - at)
                self._skip -= part
            else:
                part = min(self._need - len(self._have), len(data) - at)
                self._have += data[at : at + part]
            at += part
            self.whole = False
            if not self._skip and len(self._have) == self._need:
                header, self._have = self._have, b""
                self._need = self._steps.send(header)

    def _walk(self) -> Generator[int, bytes, None]:
        """Ask for the bytes of one header after the other; what is between is skipped."""
        while True:
            if (yield 4) == _ZSTD_MAGIC:
                yield from self._frame()
            else:
                size = yield 4
                self._skip = int.from_bytes(size, "little")
                if self._skip:
                    yield 0  # the next step is made as soon as what is skipped has come
            self.whole = True

    def _frame(self) -> Generator[int, bytes, None]:
        flags = (yield 1)[0]
        single = flags >> 5 & 1
        sizes = (single, 2, 4, 8)[flags >> 6]
        rest = (0, 1, 2, 4)[flags & 3] + sizes + (1 - single)
        if rest:
            yield rest
        last = False
        while not last:
            header = int.from_bytes((yield 3), "little")
            last = bool(header & 1)
            # Of a run only its byte is there.
            self._skip = 1 if header >> 1 & 3 == 1 else header >> 3
            if self._skip:
                yield 0
        if flags & 4:
            yield 4


def _blocks(source: Source, compression: str) -> Iterator[bytes]:
    """xz or bzip2: streams one after the other, zeros between them."""

    def fresh() -> lzma.LZMADecompressor | bz2.BZ2Decompressor:
        if compression == "xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        return bz2.BZ2Decompressor()

    stream = fresh()
    while data := source.read():
        while data:
            if stream.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream = fresh()
            yield stream.decompress(data, CHUNK)
            while not stream.eof and not stream.needs_input:
                yield stream.decompress(b"", CHUNK)
            data = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError


def _plain(source: Source) -> Iterator[bytes]:
    while data := source.read():
        yield data


def decompressed(source: Source, compression: str, name: str) -> Iterator[bytes]:
    """Yield the content in pieces of at most :data:`CHUNK` bytes.

    Raises:
        InvalidArgument: the stream, which is called ``name``, is broken or ends too early.
        OSError: it cannot be read.
    """
    try:
        yield from _pieces(source, compression)
    except _LIBRARY_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidArgument(f"{name}: {damage(compression, error, source.taken)}") from error


def _pieces(source: Source, compression: str) -> Iterator[bytes]:
    if compression == "gzip":
        return _gzip(source)
    if compression == "zstd":
        return _zstd(source)
    if compression:
        return _blocks(source, compression)
    return _plain(source)


_LIBRARY_ERRORS: tuple[type[BaseException], ...] = (
    zlib.error,
    cast(type[BaseException], igzip_lib.error),
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    ValueError,
    OSError,
)
"""What the libraries raise for a stream that is broken; bz2 raises OSError without a number."""
