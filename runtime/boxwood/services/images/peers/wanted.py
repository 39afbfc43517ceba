"""A layer that is to come, and small things about its bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack

import msgspec

from boxwood.model.digest import Digest
from boxwood.services.images.peers.channel import PIECE

SHORT = 12
SLACK = 1 << 20
"""Bytes that a frame of zstd may have beyond a 64th more than its content; it needs a 256th."""


class Wanted(msgspec.Struct, frozen=True):
    """A layer that is to come."""

    index: int
    parent: Digest | None
    diff_id: str
    chain: Digest
    size: int

    @property
    def short(self) -> str:
        """How progress names it."""
        return Digest.parse(self.diff_id).hex[:SHORT]


def most(size: int) -> int:
    """Bytes that a frame of so many may have."""
    return size + (size >> 6) + SLACK


def nothing(stack: AsyncExitStack | ExitStack) -> int:
    """Return a descriptor of an empty stream, closed with the stack."""
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


async def content(fd: int) -> AsyncGenerator[bytes, None]:
    """Yield what a file holds, from its first byte on."""
    at = 0
    while piece := os.pread(fd, PIECE, at):
        at += len(piece)
        yield piece
