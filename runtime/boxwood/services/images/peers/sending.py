"""The engine that has the image: it offers it and gives what it is asked for."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.execution.spool import to_fd
from boxwood.services.images.peers.channel import ASK, DONE, OFFER, Ask, Channel, Offer, decoded
from boxwood.services.images.peers.identity import identity_of
from boxwood.store.piping import piped, read_some

if TYPE_CHECKING:
    from boxwood.model.image import Image
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Layer

BITS_LIMIT = 1 << 20
"""Bytes of the bits of one layer's chunks: ten times what the longest list can have."""


class Send:
    """One image on its way out. Nothing but its own config and layers is ever given."""

    def __init__(self, service: ImagesService, image: Image, channel: Channel) -> None:
        self._service, self._image, self._channel = service, image, channel

    async def run(self) -> None:
        """Serve until the other side has it; raises what went wrong."""
        service, image = self._service, self._image
        with service.lease(image.chain_ids):
            layers = [service.layers.get(chain) for chain in image.chain_ids]
            sizes = [await self._size(layer) for layer in layers]
            elsewhere = identity_of(service, image, layers)
            offer = msgspec.msgpack.encode(Offer(image.document, sizes, elsewhere))
            await self._channel.send(OFFER, offer)
            while True:
                kind, data = await self._channel.receive()
                if kind == DONE:
                    break
                if kind != ASK:
                    raise InvalidArgument(f"store: {kind!r} came in place of a question")
                await self._answer(decoded(data, Ask), layers)
        service.publish("image", "push", image.id, {"name": image.id})

    async def _size(self, layer: Layer) -> int:
        if layer.tar_size:
            return layer.tar_size
        async with self._service.layers.blobs.open_tar(layer) as (fd, size):
            async for _ in _pieces(fd):
                pass
        return size

    async def _answer(self, ask: Ask, layers: list[Layer]) -> None:
        if not 0 <= ask.layer < len(layers):
            raise InvalidArgument(f"store: the image has no layer {ask.layer}")
        layer = layers[ask.layer]
        lists = self._service.layers.blobs.chunks
        async with AsyncExitStack() as stack:
            match ask.what:
                case "list":
                    fd = await stack.enter_async_context(lists.opened(layer))
                    await self._channel.send_stream(_pieces(fd))
                case "all":
                    await self._tar(layer, [])
                case "some":
                    fd = await stack.enter_async_context(lists.opened(layer))
                    bits = stack.enter_context(lists.scratch())
                    await to_fd(self._channel.stream(BITS_LIMIT), bits)
                    await self._tar(layer, [fd, bits])
                case "blob":
                    blobs = self._service.layers.blobs
                    fd, _ = await stack.enter_async_context(blobs.open_blob(layer))
                    await self._channel.send_stream(_pieces(fd))
                case _:
                    raise InvalidArgument(f"store: {ask.what[:20]!r}: no such question")

    async def _tar(self, layer: Layer, chunks: list[int]) -> None:
        async with self._service.layers.blobs.open_tar(layer) as (source, _):
            os.set_blocking(source, True)  # the worker, which alone reads it, knows no event loop

            async def work(sink: int) -> None:
                await self._service.offload("send_layer", {}, [source, sink, *chunks])

            async with aclosing(piped(work)) as pieces:
                await self._channel.send_stream(pieces)


async def _pieces(fd: int) -> AsyncGenerator[bytes, None]:
    """Yield what a file or a pipe holds."""
    while piece := await read_some(fd):
        yield piece
