"""Compression with a known result: the job that packs a layer, and the compressors by name.

A compressor's name says all that its output depends on beside the tar, so that the same bytes can
be made again: ``gzip:isal:LEVEL``, ``gzip:zlib:LEVEL:HEADER`` (the member's header in hexadecimal)
and ``zstd:zstandard:LEVEL:FLAGS`` (``c`` a checksum, ``s`` the content's size in the frame). They
are fed in pieces of :data:`~boxwood.execution.worker_decompress.CHUNK` bytes, the last one apart,
for some compressors answer differently to other pieces.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import zstandard
from isal import isal_zlib

from boxwood.errors import BoxwoodError, InvalidArgument
from boxwood.execution.worker_decompress import CHUNK, Digester, hasher_for

GZIP_LEVEL = 3
"""Of isal: its best, 3 % smaller than 1 for half as much time again: a layer is compressed once."""
ZSTD_LEVEL = 3
"""The library's default, and what others write layers with."""
SAMPLE = 256 << 10
"""Compressed bytes that are looked at to find out what made them."""

_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""Of a gzip member (RFC 1952): no name, no time, no system."""
_QUEUE = 12
_ISAL_LEVELS = range(4)
_ZLIB_LEVELS = {2: (9,), 4: (1,), 0: (6, 5, 4, 7, 8, 3, 2)}
"""Levels to try by what the header's XFL says."""
_GO_TIME = bytes.fromhex("00096e88")
"""MTIME that Go's pgzip writes when it is given none, as in buildah, podman and skopeo: seconds
from 1970 to the year 1, cut to 32 bits; as a time, one of 2042. Nothing here makes its bytes."""
_ZSTD_LEVELS = (3, 1, 2, 4, 5, 6, 7, 8, 9)
_ZLIB_STEP = 8 << 10
"""Bytes that zlib is given at once while it is tried: it makes the same of any pieces, and its
first block, some 20 kB, nearly always says that it is another one. Whole pieces took four times as
long, 50 ms for each layer that Go has compressed."""


class Compressor(Protocol):
    """What the libraries' compression objects are."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Gzip:
    """One gzip member with a header of our own choice, around raw deflate."""

    def __init__(self, raw: Compressor, header: bytes) -> None:
        self._raw = raw
        self._header = header
        self._crc = self._size = 0

    def compress(self, data: bytes) -> bytes:
        head, self._header = self._header, b""
        self._crc = isal_zlib.crc32(data, self._crc)
        self._size += len(data)
        return head + self._raw.compress(data)

    def flush(self) -> bytes:
        head, self._header = self._header, b""
        trailer = struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)
        return head + self._raw.flush() + trailer


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(name: str, size: int = -1) -> Compressor:
    """Return a fresh compressor of that name.

    Args:
        name: see the module; empty: what changes nothing.
        size: bytes of the content, which a zstd frame may say.

    Raises:
        InvalidArgument: no such compressor.
    """
    try:
        match name.split(":"):
            case [""]:
                return _Plain()
            case ["gzip", "isal", level] if int(level) in _ISAL_LEVELS:
                return _Gzip(_isal(int(level)), _HEADER)
            case ["gzip", "zlib", level, header]:
                raw = zlib.compressobj(int(level), zlib.DEFLATED, -zlib.MAX_WBITS)
                return _Gzip(raw, bytes.fromhex(header))
            case ["zstd", "zstandard", level, flags]:
                return _zstd(int(level), flags, size)
    except (ValueError, zlib.error, zstandard.ZstdError) as error:
        raise InvalidArgument(f"compress: {name[:80]}: {error}") from error
    raise InvalidArgument(f"compress: {name[:80]}: no such compressor")


def _isal(level: int) -> Compressor:
    made: Compressor = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -zlib.MAX_WBITS)
    return made


def _zstd(level: int, flags: str, size: int) -> Compressor:
    made: Compressor = zstandard.ZstdCompressor(
        level=level, write_checksum="c" in flags, write_content_size="s" in flags
    ).compressobj(size=size if "s" in flags else -1)
    return made


def find_compressor(compression: str, stored: bytes, content: bytes, size: int) -> str:
    """Find what makes of ``content`` the bytes ``stored``: the first of both, of a longer stream.

    A likely answer, not a proof: who relies on it makes the whole again and compares digests.

    Args:
        compression: ``gzip`` or ``zstd``, else nothing is found.
        stored: the first compressed bytes.
        content: the first bytes of the content, whole pieces, or all of it.
        size: bytes of the whole content.
    """
    whole = len(content) == size
    for name in _candidates(compression, stored):
        if _matches(name, stored, content, size, whole):
            return name
    return ""


def _candidates(compression: str, stored: bytes) -> Iterator[str]:
    if compression == "gzip":
        header = _gzip_header(stored)
        # What isal makes depends on the pieces it is given, so only what we fed it is known.
        if header == _HEADER:
            yield from (f"gzip:isal:{level}" for level in (GZIP_LEVEL, 1, 2, 0))
            # So do Go's and Java's libraries begin; zlib is in the latter, at its default level.
            yield f"gzip:zlib:6:{header.hex()}"
        elif header and header[4:8] != _GO_TIME:
            for level in _ZLIB_LEVELS.get(header[8], ()):
                yield f"gzip:zlib:{level}:{header.hex()}"
    elif compression == "zstd" and len(stored) > 5 and stored[:4] == b"\x28\xb5\x2f\xfd":
        flags = ("c" if stored[4] & 4 else "") + ("s" if stored[4] & 0xE0 else "")
        for level in _ZSTD_LEVELS:
            yield f"zstd:zstandard:{level}:{flags}"


def _matches(name: str, stored: bytes, content: bytes, size: int, whole: bool) -> bool:
    made = compressor(name, size)
    at, step = 0, _ZLIB_STEP if name.startswith("gzip:zlib:") else CHUNK
    for start in range(0, len(content), step):
        out = made.compress(content[start : start + step])
        if out[: len(stored) - at] != stored[at : at + len(out)]:
            return False
        at += len(out)
        if at >= len(stored):
            break
    if whole and at < len(stored):
        out = made.flush()
        return out[: len(stored) - at] == stored[at : at + len(out)]
    # Two headers that are alike say nothing.
    return at > 64


def _gzip_header(stored: bytes) -> bytes:
    """Return the header of a gzip member (RFC 1952, 2.3); empty: it is not all there."""
    if len(stored) < 10:
        return b""
    flags, at = stored[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(stored[10:12], "little")
    for bit in (8, 16):
        if flags & bit:
            at = stored.find(b"\0", at) + 1
            if at == 0:
                return b""
    at += 2 if flags & 2 else 0
    return stored[:at] if at <= min(len(stored), 1024) else b""


class Packer:
    """Takes a tar in any pieces; digests, compresses, digests again, and writes to a descriptor.

    Four steps side by side: who writes to it, its compression, and the digests in one more thread.
    """

    def __init__(self, name: str, sink: int, size: int = -1, algorithm: str = "sha256") -> None:
        self._compressor = compressor(name, size)
        self._inner = hasher_for(algorithm)[1]
        self._outer = hasher_for(algorithm)[1] if name else self._inner
        self._sink = sink
        self._digester = Digester()
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_QUEUE)
        self._error: BaseException | None = None
        self._room: list[bytes] = []
        self._held = 0
        self.size = self.stored = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Take bytes; raises what went wrong behind."""
        self.size += len(data)
        while data:
            part = data[: CHUNK - self._held]
            data = data[len(part) :]
            self._room.append(part)
            self._held += len(part)
            if self._held == CHUNK:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._error is not None:
            raise self._error
        piece = self._room[0] if len(self._room) == 1 else b"".join(self._room)
        self._room, self._held = [], 0
        self._digester.update(self._inner, piece)
        self._pieces.put(piece)

    def _run(self) -> None:
        try:
            while (piece := self._pieces.get()) is not None:
                self._store(self._compressor.compress(piece))
            self._store(self._compressor.flush())
        except BaseException as error:  # noqa: BLE001 - raised by finish()
            self._error = error
            while self._pieces.get() is not None:
                continue

    def _store(self, data: bytes) -> None:
        self.stored += len(data)
        if self._outer is not self._inner:
            self._digester.update(self._outer, data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]

    def close(self) -> None:
        """End the threads, whatever has happened. Idempotent."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()
        self._digester.finish()

    def finish(self) -> tuple[str, str]:
        """Write the rest; return the digests of the tar and of what was written, hexadecimal.

        Raises:
            OSError: the sink took no more.
        """
        if self._held:
            self._hand_over()
        self.close()
        if self._error is not None:
            raise self._error
        return self._inner.hexdigest(), self._outer.hexdigest()


def compressor_name(compression: str, level: int) -> str:
    """Return the name of what we compress with; level 0: the usual one.

    Raises:
        InvalidArgument
    """
    if compression == "":
        return ""
    if compression == "gzip":
        return f"gzip:isal:{min(level or GZIP_LEVEL, 3)}"
    if compression == "zstd" and 0 <= level <= 19:
        return f"zstd:zstandard:{level or ZSTD_LEVEL}:c"
    raise InvalidArgument(f"compress: {compression[:40]} {level}: neither gzip nor zstd 1 to 19")


def pack_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Compress a layer's tar, with both digests, in one pass.

    Descriptors: the tar, read to its end; where to write. Arguments: ``compression`` (empty,
    ``gzip`` or ``zstd``) and ``level`` (0: the usual one). The same tar makes the same bytes.
    Answers ``diff_id``, ``digest``, ``size`` (of the tar), ``stored`` (written), ``compressor``.
    """
    name = compressor_name(arguments.get("compression", ""), arguments.get("level", 0))
    packer = Packer(name, fds[1])
    try:
        _pump(fds[0], packer.write)
        inner, outer = packer.finish()
    except BoxwoodError:
        raise
    finally:
        packer.close()
    return {
        "diff_id": f"sha256:{inner}",
        "digest": f"sha256:{outer}",
        "size": packer.size,
        "stored": packer.stored,
        "compressor": name,
    }


def _pump(fd: int, write: Callable[[bytes], None]) -> None:
    while data := os.read(fd, CHUNK):
        write(data)
