"""Which layers that are here are likely to have much in common with one that is to come."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from boxwood.model.reference import Reference
from boxwood.store.chunklists import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwood.model.image import Image
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Layer

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
    if not LEAST <= size <= LARGEST:
        return []
    named = _named(service, name)
    found: dict[str, Layer] = {}
    for image in named:
        if index < len(image.chain_ids):
            layer = service.layers.get(image.chain_ids[index])
            found.setdefault(layer.diff_id, layer)
    for layer in _near(service, named, index, parent or "", size):
        found.setdefault(layer.diff_id, layer)
    usable = (
        layer
        for layer in found.values()
        if layer.tar_size >= LEAST and (layer.recipe or (layer.kept and layer.blob))
    )
    return list(islice(usable, CANDIDATES))


def _named(service: ImagesService, name: Reference | None) -> list[Image]:
    """Return the images of the same repository, the youngest first."""
    if name is None:
        return []
    images = [
        image
        for image in service.catalog.all()
        if any(Reference.parse(text).name == name.name for text in (*image.tags, *image.digests))
    ]
    return sorted(images, key=lambda image: image.tagged_at, reverse=True)


def _near(
    service: ImagesService, named: list[Image], index: int, parent: str, size: int
) -> Iterator[Layer]:
    """Yield layers of half to twice the size that may well be one: the nearest first.

    Those on the same parent, those in the same place of any image, and any of the older images.
    """
    likely = {chain for image in named for chain in image.chain_ids}
    for image in service.catalog.all():
        likely.update(image.chain_ids[index : index + 1])

    def order(layer: Layer) -> tuple[bool, int]:
        return layer.parent != parent, abs(layer.tar_size - size)

    for layer in sorted(service.layers.all(), key=order):
        fits = size <= 2 * layer.tar_size <= 4 * size
        if fits and (layer.parent == parent or layer.chain_id in likely):
            yield layer
