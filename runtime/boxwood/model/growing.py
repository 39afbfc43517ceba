"""What one process tells another, through a pipe, of a file that it still writes."""

from __future__ import annotations

import os
import struct

ALL = 1 << 63
"""Stands for all that the file holds."""

_GROWN = struct.Struct("=Q")


def tell(pipe: int, size: int) -> bool:
    """Say that the first ``size`` bytes are there. False: the pipe, which does not block, is full.

    Nobody who reads is no error: the reader says itself why it went.
    """
    try:
        os.write(pipe, _GROWN.pack(size))  # at once, being short (pipe(7), PIPE_BUF)
    except BlockingIOError:
        return False
    except BrokenPipeError:
        return True
    return True


def heard(pipe: int) -> int:
    """Wait for news; return how many bytes are there, as was said last; :data:`ALL`: at the end."""
    told = os.read(pipe, 512 * _GROWN.size)
    return int(_GROWN.unpack(told[-_GROWN.size :])[0]) if told else ALL
