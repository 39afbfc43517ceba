"""Recipes: what a layer's very bytes can be made of again, beside the files it was unpacked to.

The format is described in ``docs/layers.md``. Writing one: the extractor in C sends its records
through a pipe, a thread compresses them. Reading one: :func:`assemble_layer`.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable
from typing import IO, Any, cast

import zstandard

from boxwood.errors import DataLoss
from boxwood.execution.worker_compress import Packer
from boxwood.execution.worker_decompress import CHUNK
from boxwood_ext import mount

MAGIC = b"boxwood recipe 1\n"
_LITERAL, _FILE, _KEPT, _END = b"L", b"F", b"K", b"E"
_MARK = struct.pack("<II", 0x184D2A5B, 4) + b"kept"
"""Comes after a frame that has records ``K``, so that only such a recipe is read twice; to zstd a
skippable frame (RFC 8878, 3.1.2)."""
_KEPT_LIMIT = 16 << 20
"""Bytes in all records ``K``: what the extractor stops at (``ext/c/tar/record.c``)."""
_LITERAL_LIMIT = 1 << 20
"""Bytes of one literal record; the extractor writes up to 128 KiB."""
_NAME_LIMIT = 4095
_LEVEL = 3
"""Of zstd: headers are mostly zeros."""


class Recorder(threading.Thread):
    """Compresses what comes through :attr:`sink` into a descriptor.

    A recipe that cannot be written costs nothing but itself: :attr:`failed` says it.
    """

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self._source, self.sink = os.pipe2(os.O_CLOEXEC)
        self._target = target
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self.failed = False
        self.start()

    def run(self) -> None:
        """Pump until the other end is closed."""
        try:
            self._write(MAGIC)
            while data := os.read(self._source, CHUNK):
                self._write(data)
        except OSError:
            self.failed = True
        finally:
            # The extractor's next write fails, and it goes on without.
            os.close(self._source)

    def _write(self, data: bytes) -> None:
        self._store(self._compressor.compress(data))

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._target, view) :]

    def close(self) -> None:
        """Close the pipe and wait until all is written. Idempotent."""
        if self.sink >= 0:
            os.close(self.sink)
            self.sink = -1
            self.join()

    def finish(self, complete: bool, size: int, digest: bytes, *, keeps: bool) -> bool:
        """End the recipe of a tar of that size and SHA-256; is it complete?

        ``keeps``: it has the content of files that went again in the same layer.
        """
        self.close()
        if self.failed or not complete:
            return False
        try:
            self._write(_END + struct.pack("<Q", size) + digest)
            self._store(self._compressor.flush() + (_MARK if keeps else b""))
        except OSError:
            return False
        return True


class _Reader:
    """The records of a recipe, one after the other."""

    def __init__(self, fd: int) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=8 << 20)
        os.lseek(fd, 0, os.SEEK_SET)
        self._file = os.fdopen(os.dup(fd), "rb", buffering=0)
        source = cast(IO[bytes], self._file)
        self._stream = decompressor.stream_reader(source, read_size=CHUNK, closefd=False)

    def take(self, count: int) -> bytes:
        """Return exactly so many bytes; raises DataLoss."""
        parts = []
        try:
            while count:
                part = self._stream.read(count)
                if not part:
                    raise DataLoss("assemble layer: recipe: it is cut off")
                parts.append(part)
                count -= len(part)
        except zstandard.ZstdError as error:
            raise DataLoss(f"assemble layer: recipe: {error}") from error
        return b"".join(parts)

    def number(self, form: str) -> int:
        """Return one number in the form of the struct module."""
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def begin(self) -> None:
        """Pass over the first line."""
        if self.take(len(MAGIC)) != MAGIC:
            raise DataLoss("assemble layer: recipe: not a recipe, or of another version")

    def literal(self) -> bytes:
        """Return the rest of a record ``L``: its bytes."""
        length = self.number("<I")
        if length > _LITERAL_LIMIT:
            raise DataLoss("assemble layer: recipe: a record is too long")
        return self.take(length)

    def file(self) -> tuple[int, str]:
        """Return the rest of a record ``F``: size and path."""
        size, length = self.number("<Q"), self.number("<H")
        if length > _NAME_LIMIT:
            raise DataLoss("assemble layer: recipe: a name is too long")
        return size, os.fsdecode(self.take(length))

    def kept(self, room: int = _KEPT_LIMIT) -> tuple[int, bytes]:
        """Return the rest of a record ``K``: the file's number, and what it had."""
        number, size = self.number("<I"), self.number("<Q")
        if size > room:
            raise DataLoss("assemble layer: recipe: it keeps too much")
        return number, self.take(size)

    def close(self) -> None:
        """Close the stream."""
        self._file.close()


def _all_kept(fd: int) -> dict[int, bytes]:
    """Return what files had that went again, by the number of their record ``F``."""
    size = os.fstat(fd).st_size
    if os.pread(fd, len(_MARK), max(0, size - len(_MARK))) != _MARK:
        return {}
    found: dict[int, bytes] = {}
    room = _KEPT_LIMIT
    reader = _Reader(fd)
    try:
        reader.begin()
        while (kind := reader.take(1)) != _END:
            if kind == _LITERAL:
                reader.literal()
            elif kind == _FILE:
                reader.file()
            elif kind == _KEPT:
                number, content = reader.kept(room)
                room -= len(content)
                found[number] = content
            else:
                raise DataLoss(f"assemble layer: recipe: unknown record {kind!r}")
    finally:
        reader.close()
    return found


class _Assembler:
    def __init__(
        self, reader: _Reader, kept: dict[int, bytes], root: int, write: Callable[[bytes], None]
    ) -> None:
        self._reader = reader
        self._kept = kept
        self._files = 0
        self._root = root
        self._sink = write
        self._hasher = hashlib.sha256()
        self.size = 0

    def run(self) -> None:
        """Write the tar; raises DataLoss unless it is the very one."""
        self._reader.begin()
        while (kind := self._reader.take(1)) != _END:
            if kind == _LITERAL:
                self._write(self._reader.literal())
            elif kind == _FILE:
                self._file()
            elif kind == _KEPT:
                self._reader.kept()  # it was looked at before
            else:
                raise DataLoss(f"assemble layer: recipe: unknown record {kind!r}")
        size, digest = self._reader.number("<Q"), self._reader.take(32)
        if size != self.size or digest != self._hasher.digest():
            raise DataLoss("assemble layer: the tar has become another one than was unpacked")

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self._hasher.update(data)
        self._sink(data)

    def _file(self) -> None:
        size, path = self._reader.file()
        number = self._files
        self._files += 1
        if number in self._kept:
            self._write(self._kept[number])
        else:
            self._copy(path, size)

    def _copy(self, path: str, size: int) -> None:
        fd = self._open(path)
        try:
            if os.fstat(fd).st_size != size:
                raise DataLoss(f"assemble layer: {path[:300]}: the file has another size")
            while size:
                data = os.read(fd, min(CHUNK, size))
                if not data:
                    raise DataLoss(f"assemble layer: {path[:300]}: the file has become shorter")
                size -= len(data)
                self._write(data)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        resolve = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return mount.openat2(self._root, path, flags, resolve=resolve)
        except OSError as error:
            cause = error.strerror or error
            raise DataLoss(f"assemble layer: {path[:300]}: {cause}") from error


def assemble_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Make a layer's very bytes again.

    Descriptors: the recipe, a file; the layer's own tree, or one that shows it; where to write.
    Arguments: ``compressor`` (as :class:`boxwood.drivers.storage.Applied` says; empty: the tar
    itself), ``digest`` (what they must be, or empty), ``size`` (of the tar, where the compressor
    has to know it; -1). Answers ``size`` (bytes written) and ``digest`` (of them).

    Raises:
        DataLoss: a file is missing or has become another one; another digest.
        InvalidArgument: no such compressor.
    """
    wanted = arguments.get("digest", "")
    algorithm = wanted.partition(":")[0] or "sha256"
    packer = Packer(arguments["compressor"], fds[2], arguments.get("size", -1), algorithm)
    try:
        kept = _all_kept(fds[0])
        reader = _Reader(fds[0])
        try:
            _Assembler(reader, kept, fds[1], packer.write).run()
        finally:
            reader.close()
        found = f"{algorithm}:{packer.finish()[1]}"
    finally:
        packer.close()
    if wanted and found != wanted:
        raise DataLoss(f"assemble layer: {wanted}: the bytes made again have {found}")
    return {"size": packer.stored, "digest": found}
