"""The file that tells what of a copy need not be compared with its original later.

What the record proves, and why, stands in ``ext/c/diff/copied.c``. A file that a full disk or a
power cut has spoiled proves nothing; then all is compared.
"""

from __future__ import annotations

import errno
import os

import xxhash

from boxwood_ext import diff

_HEAD = b"boxwood copied 1"
_DIGEST_SIZE = 16
_LIMIT = 1 << 30
"""Bytes of a record that is read: of 30 million inodes."""


def write(file: int, copy: int, original: int) -> None:
    """Record a whole copy, to which nobody writes yet, in a fresh file of the same file system."""
    # Its own time comes from the file system's clock, after all times of the copy; one that was
    # looked at before is exact, from Linux 6.13 on.
    os.fstat(file)
    os.fchmod(file, 0o600)
    status = os.fstat(file)
    if status.st_dev != os.fstat(copy).st_dev:
        return
    slots = diff.record(copy, original, status.st_ctime_ns)
    try:
        with open(file, "wb", closefd=False) as out:
            out.write(_HEAD + xxhash.xxh3_128_digest(slots) + slots)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def read(file: int) -> bytes:
    """Return what was recorded, for :func:`boxwood_ext.diff.diff`; empty when it proves nothing."""
    if os.fstat(file).st_size > _LIMIT:
        return b""
    with open(file, "rb", closefd=False) as source:
        head, digest = source.read(len(_HEAD)), source.read(_DIGEST_SIZE)
        slots = source.read()
    return slots if head == _HEAD and digest == xxhash.xxh3_128_digest(slots) else b""
