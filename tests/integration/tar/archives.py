"""Making archives for the tests, and looking at trees."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> Any:
    """Return a member and its content."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = fields.pop("mode", 0o755 if kind == tarfile.DIRTYPE else 0o644)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> Any:
    return entry(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> Any:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Any:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def archive(*entries: Any, format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return the archive of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def header(name: bytes, size: int = 0, kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return one raw ustar header block with a right checksum; fields by their offsets below."""
    block = bytearray(512)
    offsets = {"mode": 100, "uid": 108, "gid": 116, "size_field": 124, "mtime": 136, "link": 157}
    values = {"mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0"}
    values |= {"size_field": b"%011o\0" % size, "mtime": b"00000000000\0"}
    block[: len(name)] = name
    for key, value in (values | fields).items():
        block[offsets[key] : offsets[key] + len(value)] = value
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(*records: bytes) -> bytes:
    """Return a PAX header with these raw records."""
    body = b"".join(records)
    return header(b"pax", len(body), b"x") + body + bytes(-len(body) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """Return a PAX record with its length in front."""
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def listing(root: Path, *, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Return all that counts of a tree, by path."""
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[int, str] = {}
    for at, directories, files in os.walk(root):
        for name in sorted([*directories, *files]):
            path = Path(at, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                # Overlay lists a whiteout in a directory that has nothing below; it is not there.
                continue
            content: Any = None
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG:
                content = path.read_bytes()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                content = status.st_rdev
            relative = str(path.relative_to(root))
            first = inodes.setdefault(status.st_ino, relative) if kind != stat.S_IFDIR else ""
            mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
            found[relative] = (
                kind,
                mode,
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns if times else 0,
                content,
                first,
                tuple(
                    (key, os.getxattr(path, key, follow_symlinks=False))
                    for key in sorted(os.listxattr(path, follow_symlinks=False))
                ),
            )
    return found
