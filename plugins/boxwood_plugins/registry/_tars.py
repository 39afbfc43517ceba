"""Archives whose files are read where they lie: an index of a tar, nothing is unpacked.

Sources: tar(5) of libarchive for the ustar, GNU and PAX headers. Only what archives of images need
is read: names, sizes, regular files and links between them.
"""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, cast

import zstandard
from isal import igzip

from boxwood.errors import DataLoss, InvalidArgument, NotFound, TooLarge
from boxwood.model.damage import ZSTD_WINDOW, damage
from boxwood_plugins.registry._content import Extent, copied, failed, nameless, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLOCK = 512
MEMBERS_LIMIT = 100_000
HEADER_LIMIT = 1 << 20
"""Bytes of a long name or of PAX records."""
UNPACKED_LIMIT = 1 << 40
"""Bytes that a compressed archive may become on disk: one terabyte, as of a layer."""
_LINKS_LIMIT = 8
"""Links that lead to links."""
_PIECE = 1 << 20


class Tar:
    """The files of an archive by name, the last of a name counting. Close it."""

    def __init__(self, path: str) -> None:
        """Read the headers.

        Raises:
            NotFound: there is no such file.
            InvalidArgument, DataLoss: it is no tar, or a broken one.
            TooLarge: it has more members than an image can need.
        """
        self.path = path
        self.notes: dict[str, object] = {}
        """What was learnt of its files, for who reads it."""
        self._fd = _opened(path)
        try:
            self._files = dict(_members(self._fd, path))
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def open(self, path: str) -> Extent:
        """Return where a file's content lies; raises NotFound, InvalidArgument."""
        name = _normal(path)
        for _ in range(_LINKS_LIMIT):
            found = self._files.get(name)
            if found is None:
                raise NotFound(f"{self.path}: {path[:300]}: not in the archive")
            if isinstance(found, tuple):
                return Extent(os.dup(self._fd), *found)
            name = found
        raise InvalidArgument(f"{self.path}: {path[:300]}: links that lead in a circle")


def _opened(path: str) -> int:
    """Open an archive; one that is compressed is unpacked into a file that goes with it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such archive") from error
    except OSError as error:
        raise failed("open", path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(f"{path}: not a regular file")
    try:
        opener = _decompressor(os.pread(fd, 6, 0))
        if opener is None:
            return fd
        plain = _unpacked(fd, opener, path)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return plain


def compression(magic: bytes) -> str:
    """Return what the first six bytes of a file say of how it is compressed; empty: not."""
    for name, mark in _MAGIC.items():
        if magic.startswith(mark):
            return name
    return ""


_MAGIC = {
    "gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
}


def _decompressor(magic: bytes) -> Callable[[IO[bytes]], Iterator[bytes]] | None:
    return {"gzip": _gunzip, "zstd": _unzstd, "bzip2": _unbzip2, "xz": _unxz}.get(
        compression(magic)
    )


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _gunzip(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what a gzip file of any number of members holds."""
    with cast(IO[bytes], igzip.open(file, "rb")) as plain:  # type: ignore[no-untyped-call]
        yield from _read(plain)


def _unbzip2(file: IO[bytes]) -> Iterator[bytes]:
    with bz2.open(file, "rb") as plain:
        yield from _read(plain)


def _unxz(file: IO[bytes]) -> Iterator[bytes]:
    with lzma.open(file, "rb") as plain:
        yield from _read(plain)


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).stream_reader(
        file, read_across_frames=True
    ) as plain:
        yield from _read(plain)


def _unpacked(fd: int, opener: Callable[[IO[bytes]], Iterator[bytes]], path: str) -> int:
    directory = os.open(os.path.dirname(path) or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        plain = nameless(directory)
    finally:
        os.close(directory)
    size = 0
    try:
        with os.fdopen(os.dup(fd), "rb") as file:
            for piece in opener(file):
                size += len(piece)
                if size > UNPACKED_LIMIT:
                    raise TooLarge(f"{path}: unpacks to more than {UNPACKED_LIMIT} bytes")
                write_all(plain, piece)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        os.close(plain)
        if isinstance(error, OSError) and error.errno is not None:
            raise failed("unpack", path, error) from error
        kind, at = compression(os.pread(fd, 6, 0)), os.lseek(fd, 0, os.SEEK_CUR)
        raise DataLoss(f"{path}: {damage(kind, error, at)}") from error
    except BaseException:
        os.close(plain)
        raise
    return plain


# Headers


def _members(fd: int, path: str) -> Iterator[tuple[str, tuple[int, int] | str]]:
    """Yield each file's name and where it lies, each link's name and what it leads to."""
    at, end = 0, os.fstat(fd).st_size
    extra: dict[str, str] = {}
    for _ in range(MEMBERS_LIMIT):
        header = os.pread(fd, BLOCK, at)
        if len(header) < BLOCK or not header.strip(b"\0"):
            if at == 0:
                raise InvalidArgument(f"{path}: not a tar archive")
            return
        kind, name, link, size = _header(header, path, at)
        at += BLOCK
        if kind in b"LKxg":
            if kind != b"g":
                extra |= _extra(fd, kind, at, size, path)
        else:
            name, link = extra.get("path", name), extra.get("linkpath", link)
            size = _pax_size(extra, path) if "size" in extra else size
            extra = {}
            if kind in b"\x007":
                kind = b"0"
            if kind == b"0":
                if size > end - at:
                    raise DataLoss(f"{path}: {name[:300]}: is cut short")
                yield _normal(name), (at, size)
            elif kind == b"1":
                yield _normal(name), _normal(link)
            elif kind == b"2":
                yield _normal(name), _normal(f"{os.path.dirname(_normal(name))}/{link}")
            if kind in b"12345":
                size = 0
        at += -(-size // BLOCK) * BLOCK
    raise TooLarge(f"{path}: more than {MEMBERS_LIMIT} members")


def _header(header: bytes, path: str, at: int) -> tuple[bytes, str, str, int]:
    """Return type, name, link and size of a header; its checksum is checked."""
    wrong = InvalidArgument(f"{path}: not a tar archive, or a broken one, at byte {at}")
    try:
        wanted = int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        raise wrong from None
    if sum(header[:148]) + 8 * 32 + sum(header[156:]) != wanted:
        raise wrong
    field = header[124:136]
    if field[0] & 0x80:
        size = int.from_bytes(field) & ~(0xFF << 88)
    else:
        try:
            size = int(field.strip(b" \0") or b"0", 8)
        except ValueError:
            raise wrong from None
    if not 0 <= size < 1 << 62:
        raise wrong
    name, link = _text(header[:100]), _text(header[157:257])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = f"{prefix}/{name}"
    return header[156:157], name, link, size


def _extra(fd: int, kind: bytes, at: int, size: int, path: str) -> dict[str, str]:
    """Return what a long name or PAX records say of the next member."""
    if size > HEADER_LIMIT:
        raise TooLarge(f"{path}: a header of more than {HEADER_LIMIT} bytes")
    data = os.pread(fd, size, at)
    if len(data) < size:
        raise DataLoss(f"{path}: is cut short")
    if kind != b"x":
        return {"path" if kind == b"L" else "linkpath": _text(data)}
    found = {}
    while data:
        length = data[:9].partition(b" ")[0]
        fits = length.isdigit() and len(length) < 9
        if not fits or not len(length) + 3 <= int(length) <= len(data):
            raise InvalidArgument(f"{path}: broken PAX records")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode(errors="replace")] = value.decode(errors="replace")
        data = data[int(length) :]
    return found


def _pax_size(extra: dict[str, str], path: str) -> int:
    text = extra["size"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidArgument(f"{path}: broken PAX records")
    return int(text)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _normal(name: str) -> str:
    """Return a name from the archive's root; what would leave it stays in it."""
    return os.path.normpath(f"/{name}").lstrip("/")


# Writing


def write_tar(fd: int, files: Iterable[tuple[str, bytes | Extent]]) -> None:
    """Write an archive of files that belong to nobody and have no time.

    Raises:
        ResourceExhausted and what else the file system says.
    """
    for name, data in files:
        info = tarfile.TarInfo(name)
        info.size = len(data) if isinstance(data, bytes) else data.size
        write_all(fd, info.tobuf(tarfile.GNU_FORMAT))
        if isinstance(data, bytes):
            write_all(fd, data)
        else:
            try:
                copied(data, fd)
            except OSError as error:
                raise failed("write", name, error) from error
        write_all(fd, b"\0" * (-info.size % BLOCK))
    write_all(fd, b"\0" * (2 * BLOCK))
