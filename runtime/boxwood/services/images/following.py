"""What a worker tells of the large files of an archive while it splits it: layers begin here.

The records are those of ``ext/c/tar/follow.c``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from boxwood.errors import InvalidArgument, NotFound
from boxwood.services.images.archive import Archive
from boxwood.store.ahead import Ahead
from boxwood.store.layers import LayerStore
from boxwood.store.piping import read_some

log = logging.getLogger(__name__)

_BEGIN = struct.Struct("<QH")


class Following:
    """Has the files of one archive unpacked ahead as they come."""

    def __init__(self, archive: Archive, ahead: Ahead, layers: LayerStore) -> None:
        self._archive = archive
        self._ahead = ahead
        self._layers = layers
        self._buffer = b""

    @asynccontextmanager
    async def told(self) -> AsyncIterator[int]:
        """``async with following.told() as fd``: what is written to ``fd`` is followed.

        At the end of the block all of it has been.
        """
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)  # a worker writes there
        work = asyncio.ensure_future(self._run(read_end))
        work.add_done_callback(lambda _: os.close(read_end))
        try:
            try:
                yield write_end
            finally:
                os.close(write_end)
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def _run(self, fd: int) -> None:
        while data := await read_some(fd):
            self._buffer += data
            while self._step():
                pass
        self._ahead.whole()

    def _step(self) -> bool:
        """Take one record out of the buffer; False: it holds no whole one."""
        kind, buffer = self._buffer[:1], self._buffer
        if kind == b"B":
            if len(buffer) < 1 + _BEGIN.size:
                return False
            inode, length = _BEGIN.unpack_from(buffer, 1)
            end = 1 + _BEGIN.size + length
            if len(buffer) < end:
                return False
            self._begin(inode, os.fsdecode(buffer[end - length : end]))
            self._buffer = buffer[end:]
            return True
        if kind == b"G":
            self._ahead.grew()
        elif kind == b"E":
            self._ahead.whole()
        self._buffer = buffer[1:]
        return bool(kind)

    def _begin(self, inode: int, path: str) -> None:
        self._ahead.whole()
        if self._layers.has_archive(os.path.basename(path)):
            return
        try:
            fd = self._archive.open(path)
        except (NotFound, InvalidArgument):
            return  # it has been replaced meanwhile
        try:
            if os.fstat(fd).st_ino == inode:
                self._ahead.begin(fd)
                return
        except OSError as error:
            log.debug("unpack ahead: %s", error)  # descriptors ran out: later will do
        os.close(fd)
