"""What an image is called in registries, and what its layers came as, from one engine to another.

Manifests travel whole, for they are small. Of a compressed layer travels what its bytes can be made
of its tar by; whoever gets that tries it before relying on it
(:meth:`boxwood.store.blobs.LayerBlobs.prove`).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.documents import parse
from boxwood.errors import BoxwoodError, InvalidArgument
from boxwood.model.descriptor import Manifest
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.services.images.documents import documents_below
from boxwood.store.records import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boxwood.model.image import Image
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Layer

log = logging.getLogger(__name__)

NAMES = 32
"""Names with digests that are given and taken of one image."""
DOCUMENTS = 3 << 20
"""Bytes of all manifests and indexes together; with the config (4 MiB) they fit into a frame."""
_COMPRESSOR = re.compile(
    r"gzip:(isal:[0-3]|zlib:[0-9]:[0-9a-f]{20,80})|zstd:zstandard:1?[0-9]:[cs]{0,2}", re.ASCII
)
"""What is run for a stranger: zstd's levels above 19 take up to a gigabyte."""


class Identity(msgspec.Struct, frozen=True):
    """What an image is elsewhere.

    Attributes:
        names: canonical, each with a digest and no tag.
        documents: the manifests and indexes that they stand for.
        came: for each layer what it came as; None: it is not known, or that is its tar. One
            without a compressor cannot be made again, but is kept, and can be asked for.
    """

    names: list[str] = []
    documents: list[bytes] = []
    came: list[Claim | None] = []


def identity_of(service: ImagesService, image: Image, layers: Iterable[Layer]) -> Identity:
    """Return what is to be told of an image of ours."""
    names: list[str] = []
    documents: dict[Digest, bytes] = {}
    for name in image.digests[:NAMES]:
        found = _documents(service, image, name)
        size = sum(map(len, (documents | found).values()))
        if found and size <= DOCUMENTS:
            names.append(name)
            documents |= found
    return Identity(names, list(documents.values()), [_claim(layer) for layer in layers])


def _documents(service: ImagesService, image: Image, name: str) -> dict[Digest, bytes]:
    """Return the image's manifest by its digest, and the index above it; nothing: not here."""
    content, top = service.content, Reference.parse(name).digest
    if top is None or not content.has(top):
        return {}
    for digest in (top, *documents_below(content, top)):
        try:
            found = {one: content.read(one, DOCUMENTS) for one in (top, digest)}
            if _is_manifest_of(image.id, len(image.chain_ids), found[digest]):
                return found
        except BoxwoodError as error:
            log.info("send %s: %s", name, error)
    return {}


def _claim(layer: Layer) -> Claim | None:
    if layer.compression and layer.blob and (layer.compressor or layer.kept):
        return Claim(
            blob=layer.blob,
            stored=layer.stored,
            compression=layer.compression,
            compressor=layer.compressor,
        )
    return layer.claim


def taken(
    service: ImagesService, image: str, layers: int, given: Identity
) -> tuple[list[Reference], list[bytes]]:
    """Return the names that are true and allowed here, and the documents that they stand for.

    Args:
        image: the id, as the config that was given has it.
        layers: how many it has.
    """
    if len(given.names) > NAMES or sum(map(len, given.documents)) > DOCUMENTS:
        raise InvalidArgument("store: more names or manifests than an image can need")
    names: list[Reference] = []
    documents: list[bytes] = []
    held = {
        Digest.of(data, algorithm): data
        for data in given.documents
        for algorithm in ("sha256", "sha512")
    }
    for text in given.names:
        try:
            name = Reference.parse(text)
            _check(service, name)
            used = _chain(held, name, image, layers)
        except BoxwoodError as error:
            log.info("receive: the name %s is left out: %s", text[:300], error)
            continue
        names.append(name)
        documents += [data for data in used if data not in documents]
    return names, documents


def _check(service: ImagesService, name: Reference) -> None:
    """Raise what speaks against a name: it has no digest, or may not come here this way."""
    if name.digest is None or name.tag is not None:
        raise InvalidArgument("not the name of a manifest")
    service.shipping.policy.unsigned(name, "from another engine none comes")


def _chain(held: Mapping[Digest, bytes], name: Reference, image: str, layers: int) -> list[bytes]:
    """Return the documents that lead from a name to the image; raises InvalidArgument."""
    assert name.digest is not None
    top = held.get(name.digest)
    if top is None:
        raise InvalidArgument("its manifest did not come")
    if _is_manifest_of(image, layers, top):
        return [top]
    for entry in parse("index", top).manifests or ():
        below = held.get(Digest.parse(entry.digest))
        if below is not None and _is_manifest_of(image, layers, below):
            return [top, below]
    raise InvalidArgument("it is another image's")


def _is_manifest_of(image: str, layers: int, data: bytes) -> bool:
    manifest: Manifest = parse("manifest", data)
    manifest.check_layers("manifest")
    return manifest.is_of(image, layers)


def believable(claim: Claim | None, layer: Layer) -> bool:
    """May what is said of a layer be tried, and is nothing better known?"""
    if claim is None or layer.compression or not layer.recipe:
        return False
    return (
        _COMPRESSOR.fullmatch(claim.compressor) is not None
        and claim.compressor.partition(":")[0] == claim.compression
        and claim.is_credible(layer.tar_size)
    )
