"""Which layers that are here are likely to have much in common with one that is to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwood.services.images.service import ImagesService
    from boxwood.store.blobs import Layer

CANDIDATES = 3
"""Layers that are compared: each costs a pass over its tar, the first time."""
LEAST = 256 << 10
"""Bytes of a tar from which on a difference is worth two questions more."""


def alike(
    service: ImagesService, name: Reference | None, index: int, parent: str | None, size: int
) -> list[Layer]:
    """Return layers, the likeliest first: of older images of the name, in the same place in others.

    Args:
        name: what the image is to be called.
        index: of the layer, counted from the lowest.
        parent: chain ID of the layer below.
        size: bytes of the tar.
    """
    if size < LEAST:
        return []
    found: dict[str, Layer] = {}
    for layer in (*_older(service, name, index), *_near(service, index, parent, size)):
        if layer.tar_size >= LEAST and (layer.recipe or (layer.kept and layer.blob)):
            found.setdefault(layer.diff_id, layer)
    return list(found.values())[:CANDIDATES]


def _older(service: ImagesService, name: Reference | None, index: int) -> Iterator[Layer]:
    """Yield the layers in that place of images of the same repository, the youngest image first."""
    if name is None:
        return
    images = [
        image
        for image in service.catalog.all()
        if any(Reference.parse(text).name == name.name for text in (*image.tags, *image.digests))
    ]
    for image in sorted(images, key=lambda image: image.tagged_at, reverse=True):
        if index < len(image.chain_ids):
            yield service.layers.get(image.chain_ids[index])


def _near(service: ImagesService, index: int, parent: str | None, size: int) -> Iterator[Layer]:
    """Yield layers of half to twice the size: on the same parent, in the same place."""
    place = {
        image.chain_ids[index] for image in service.catalog.all() if index < len(image.chain_ids)
    }
    near = [layer for layer in service.layers.all() if size <= 2 * layer.tar_size <= 4 * size]

    def order(layer: Layer) -> tuple[bool, bool, int]:
        same = layer.parent == (parent or "")
        return not same, layer.chain_id not in place, abs(layer.tar_size - size)

    yield from sorted(near, key=order)
