"""The compressed form of layers that came without one: made once, and again where it is wanted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import DataLoss
from boxwood.model.wire import replace
from boxwood.store.piping import opened, read_some

if TYPE_CHECKING:
    from boxwood.model.compression import Compression
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Layer

_PIECE = 1 << 20
_LOOK = 0.02
"""Seconds between two looks at whether there is more."""

Source = Callable[[int], AsyncIterator[bytes]]
"""Opens content at an offset in bytes."""


class Packer:
    """Makes it, in workers."""

    def __init__(self, service: ImagesService, compression: Compression) -> None:
        self._service, self._compression = service, compression

    @asynccontextmanager
    async def packing(self, layer: Layer) -> AsyncIterator[tuple[asyncio.Task[Layer], Source]]:
        """``async with packer.packing(layer) as (packed, source)``: compress into a file.

        ``packed`` ends with the layer that knows of it. ``source`` can be read before: it waits for
        what is not there yet, and ends where that does.

        Raises:
            ResourceExhausted, DataLoss: no room; the layer's files are not what they were.
        """
        fd = self._spool()
        packed = asyncio.ensure_future(self._pack(layer, fd))

        async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
            while True:
                last = packed.done()
                if piece := os.pread(fd, _PIECE, offset):
                    offset += len(piece)
                    yield piece
                elif last:
                    packed.result()
                    return
                else:
                    await asyncio.wait([packed], timeout=_LOOK)

        try:
            yield packed, pieces
        finally:
            packed.cancel()
            await asyncio.wait([packed])
            os.close(fd)

    def again(self, layer: Layer) -> Source:
        """Return the compressed form that is known: it is made only if it is wanted."""

        async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
            async with self._service.layers.blobs.open_tar(layer) as (source, _):

                async def work(sink: int) -> None:
                    made = await self._compress(source, sink)
                    if made["digest"] != layer.packed:
                        raise DataLoss(f"push: layer {layer.diff_id}: compressed differently")

                async with opened(work) as fd, aclosing(from_offset(fd, offset)) as stream:
                    async for piece in stream:
                        yield piece

        return pieces

    def _spool(self) -> int:
        """Return a file without a name, for what is compressed; raises ResourceExhausted."""
        directory = self._service.content.root / "ingest"
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("push: make file", directory, error) from error

    async def _pack(self, layer: Layer, sink: int) -> Layer:
        """Compress into ``sink``; digest and size are remembered."""
        async with self._service.layers.blobs.open_tar(layer) as (source, _):
            made = await self._compress(source, sink)
        if made["diff_id"] != layer.diff_id:
            raise DataLoss(f"push: layer {layer.diff_id}: its files make {made['diff_id']}")
        known = self._service.layers.get(layer.chain_id)
        return self._service.layers.remember(
            replace(
                known,
                packed=made["digest"],
                packed_size=made["stored"],
                packed_as=str(self._compression),
            )
        )

    async def _compress(self, source: int, sink: int) -> dict[str, Any]:
        # A pipe that does not block: the worker, which alone reads it, knows no event loop.
        os.set_blocking(source, True)
        asked = {"compression": self._compression.name, "level": self._compression.level}
        return await self._service.offload("pack_layer", asked, [source, sink])


async def from_offset(fd: int, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield what a file or a pipe gives after ``offset`` bytes."""
    while piece := await read_some(fd):
        if offset >= len(piece):
            offset -= len(piece)
            continue
        yield piece[offset:]
        offset = 0
