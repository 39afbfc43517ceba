"""Compressed streams that are not taken: how much they may ask for, and what is wrong with one.

In one clause, for the libraries' words say it to nobody.
"""

from __future__ import annotations

XZ_MEMORY = 256 << 20
"""Bytes that the xz decoder may take: its -9 needs 65 MiB."""
ZSTD_WINDOW = 128 << 20
"""Bytes of window that a zstd frame may ask for: its own default limit."""


def damage(compression: str, error: BaseException, at: int) -> str:
    """Return what is wrong, to follow the stream's name and a colon.

    Args:
        compression: ``gzip``, ``zstd``, ``xz`` or ``bzip2``.
        error: what the library raised; EOFError: the stream ended in the midst.
        at: bytes of the stream that had been read.
    """
    if isinstance(error, EOFError):
        return f"its {compression} data ends too early: cut off after {at} bytes"
    if "memory" in str(error).lower():
        return f"its {compression} data needs more memory than is given"
    return f"its {compression} data is corrupt, at byte {at} or before"
