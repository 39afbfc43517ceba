"""Jobs on archives: decompression, digests and extraction in one pass.

Two threads: one reads, decompresses and digests, the other extracts what comes through a pipe.
Both spend their time in compiled code without the GIL.
"""

from __future__ import annotations

import bz2
import fcntl
import hashlib
import lzma
import os
import threading
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

import zstandard
from isal import isal_zlib

from boxwood.errors import BoxwoodError, InvalidArgument, TooLarge
from boxwood_ext import tar

CHUNK = 256 << 10
"""Bytes read at once: from here on hashlib and the decompressors let go of the GIL for long."""
PIPE_SIZE = 1 << 20
"""Bytes of the pipe to the extractor (the limit for the unprivileged, fs.pipe-max-size)."""
RATIO_LIMIT = 1200
"""Bytes out for a byte in: gzip cannot do more than 1032 (zlib's documentation), so nothing that
is honest comes near; zstd and xz can reach millions."""
RATIO_FREE = 64 << 20
"""Bytes out before the ratio counts."""
XZ_MEMORY = 256 << 20
"""Bytes that the xz decoder may take: its -9 needs 65 MiB."""
ZSTD_WINDOW = 128 << 20
"""Bytes of window that a zstd frame may ask for: its own default limit."""

_GZIP_PIECE = 16 << 10
"""Compressed bytes given to the gzip decoder at once."""

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


def compression_of(head: bytes) -> str:
    """Return the compression that the first bytes show; an empty string: none."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    # A skippable frame may come first in zstd (RFC 8878, 3.1.2).
    if len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return ""


class _Source:
    """The stream as it comes: counted and digested."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = b""
        self.hasher = hashlib.sha256()
        self.taken = 0

    def peek(self) -> bytes:
        """Return the first bytes, which the next read gives again."""
        while len(self._head) < 8 and (data := os.read(self._fd, CHUNK)):
            self._head += data
        return self._head[:8]

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next bytes, nothing at the end."""
        data, self._head = self._head, b""
        if not data:
            data = os.read(self._fd, CHUNK)
        if len(data) > size:
            data, self._head = data[:size], data[size:]
        self.taken += len(data)
        self.hasher.update(data)
        return data


def _gzip(source: _Source) -> Iterator[bytes]:
    """Members one after the other, zeros after the last one."""
    member = isal_zlib.decompressobj(16 + zlib.MAX_WBITS)
    while data := source.read():
        # Small pieces, so that a bomb comes out in pieces too: 16 KiB can be 16 MiB at most.
        for start in range(0, len(data), _GZIP_PIECE):
            piece = data[start : start + _GZIP_PIECE]
            while piece:
                if member.eof:
                    piece = piece.lstrip(b"\0")
                    if not piece:
                        break
                    member = isal_zlib.decompressobj(16 + zlib.MAX_WBITS)
                yield member.decompress(piece)
                piece = member.unused_data if member.eof else b""
    if not member.eof:
        raise InvalidArgument("decompress: gzip: unexpected end of the stream")


def _zstd(source: _Source) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    with decompressor.stream_reader(
        cast(IO[bytes], source), read_size=CHUNK, read_across_frames=True, closefd=False
    ) as reader:
        while data := reader.read(CHUNK):
            yield data


def _blocks(source: _Source, compression: str) -> Iterator[bytes]:
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
        raise InvalidArgument(f"decompress: {compression}: unexpected end of the stream")


def _plain(source: _Source) -> Iterator[bytes]:
    while data := source.read():
        yield data


def decompressed(source: _Source, compression: str) -> Iterator[bytes]:
    """Yield the content in pieces of bounded size.

    Raises:
        InvalidArgument, or an error of the library: the stream is broken or ends too early.
    """
    if compression == "gzip":
        return _gzip(source)
    if compression == "zstd":
        return _zstd(source)
    if compression:
        return _blocks(source, compression)
    return _plain(source)


class _Feeder(threading.Thread):
    """Reads the source, feeds the pipe, and computes both digests."""

    def __init__(self, source: int, sink: int, limit: int) -> None:
        super().__init__(daemon=True)
        self.source = _Source(source)
        self._sink = sink
        self._limit = limit
        self.inner = self.source.hasher
        self.given = 0
        self.compression = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Pump, and keep what went wrong for the job."""
        try:
            self.compression = compression_of(self.source.peek())
            if self.compression:
                self.inner = hashlib.sha256()
            for out in decompressed(self.source, self.compression):
                self._give(out)
        except BrokenPipeError:
            pass  # the extractor has given up and says why
        except BaseException as error:  # noqa: BLE001 - raised again by the job
            self.error = error
        finally:
            os.close(self._sink)

    def _give(self, out: bytes) -> None:
        self.given += len(out)
        if self.given > self._limit:
            raise TooLarge(f"decompress: more than {self._limit} bytes")
        if self.given > RATIO_FREE and self.given > self.source.taken * RATIO_LIMIT:
            raise TooLarge(f"decompress: {self.compression}: expands more than {RATIO_LIMIT} times")
        if self.compression:
            self.inner.update(out)
        view = memoryview(out)
        while view:
            view = view[os.write(self._sink, view) :]


def _extract(
    source: int, target: int, arguments: dict[str, Any], *, archive: bool
) -> tuple[_Feeder, tar.Extracted]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    feeder = _Feeder(source, write_end, arguments["max_bytes"])
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    feeder.start()
    try:
        extracted = tar.extract(
            read_end,
            directory,
            whiteouts="plain" if archive else arguments["whiteouts"],
            userxattr=arguments.get("user_xattr", False),
            devices=arguments.get("devices", True),
            archive=archive,
            max_entries=arguments["max_entries"],
            max_bytes=arguments["max_bytes"],
        )
    except tar.TarError:
        os.close(read_end)
        feeder.join()
        # A stream that broke looks like an archive that is cut off: its own error says more.
        if feeder.error is not None:
            raise _readable(feeder.error) from None
        raise
    finally:
        os.close(directory)
    os.close(read_end)
    feeder.join()
    if feeder.error is not None:
        raise _readable(feeder.error)
    return feeder, extracted


def _readable(error: BaseException) -> BaseException:
    if isinstance(error, (BoxwoodError, OSError, MemoryError)):
        return error
    # The libraries' own: zlib.error, LZMAError, ZstdError, EOFError, ...
    return InvalidArgument(f"decompress: {error}")


def unpack_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack a layer, compressed or not.

    Descriptors: the layer's bytes; the directory. Arguments: ``whiteouts`` (``overlay`` or
    ``delete``), ``user_xattr``, ``devices``, ``max_bytes``, ``max_entries``, ``diff_id`` and
    ``digest`` (what they must be, or empty). Answers ``diff_id``, ``digest`` (of the bytes as they
    came), ``size`` (content unpacked), ``stored`` (bytes as they came), ``compression``.
    """
    feeder, extracted = _extract(fds[0], fds[1], arguments, archive=False)
    found = {
        "diff_id": f"sha256:{feeder.inner.hexdigest()}",
        "digest": f"sha256:{feeder.source.hasher.hexdigest()}",
    }
    for key, value in found.items():
        wanted = arguments.get(key, "")
        if wanted and wanted != value:
            raise InvalidArgument(f"unpack layer: {wanted}: the content's {key} is {value}")
    return {
        **found,
        "size": extracted["bytes"],
        "entries": extracted["entries"],
        "stored": feeder.source.taken,
        "compression": feeder.compression,
    }


def split_archive(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack an archive of files (what ``docker save`` writes) into a private directory.

    Descriptors: the stream; the directory. Arguments: ``max_bytes``, ``max_entries``. Answers
    ``entries`` and ``stored`` (bytes as they came).
    """
    feeder, extracted = _extract(fds[0], fds[1], arguments, archive=True)
    return {"entries": extracted["entries"], "stored": feeder.source.taken}


def hash_file(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Answers ``digest`` and ``size`` of the file given, from its start."""
    del arguments
    hasher = hashlib.sha256()
    size = 0
    while data := os.pread(fds[0], CHUNK, size):
        hasher.update(data)
        size += len(data)
    return {"digest": f"sha256:{hasher.hexdigest()}", "size": size}
