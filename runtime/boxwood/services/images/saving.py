"""``docker save``: images, their layers shared, as one archive that every engine reads.

It is an OCI image layout with Docker's ``manifest.json`` and ``repositories`` beside it
(facts/formats-and-protocols.md section 5). Layers are uncompressed tars, named by diff ID, as
Docker's classic store writes them: the archive's bytes follow from the images alone, whether their
blobs came as gzip, zstd or not at all, and the diff ID is the digest that every reader checks.

The documents come after the layers, whose sizes they say: they are known when one is opened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.errors import DataLoss, InvalidArgument, NotFound
from boxwood.model import times
from boxwood.model.digest import Digest
from boxwood.model.image import Image
from boxwood.model.reference import Reference
from boxwood.store.piping import read_some

if TYPE_CHECKING:
    from boxwood.services.images.service import ImagesService

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"


class Saved(msgspec.Struct):
    """An image and the names that it goes under in the archive."""

    image: Image
    names: list[Reference]


class Save:
    """One request to save. What is asked for is looked up at once; NotFound if it is not there."""

    def __init__(self, service: ImagesService, refs: Sequence[str]) -> None:
        if not refs:
            raise InvalidArgument("save image: no image was named")
        self._service = service
        self._found: dict[str, Saved] = {}
        for ref in refs:
            self._choose(ref)
        self._sizes: dict[str, int] = {}
        """Bytes of each layer's tar, by diff ID."""

    def _choose(self, ref: str) -> None:
        catalog = self._service.catalog
        try:
            asked = Reference.parse(ref)
        except InvalidArgument:
            return self._add(catalog.get(ref), None)
        if asked.tag is None and asked.digest is None and self._all_tags(asked.name):
            return None
        try:
            image = catalog.get(ref)
        except NotFound as error:
            raise NotFound(f"No such image: {ref}") from error
        by_tag = asked.digest is None and catalog.by_name(asked) is image
        # By its digest or its id it has no name.
        return self._add(image, asked.with_default_tag() if by_tag else None)

    def _all_tags(self, name: str) -> bool:
        """Take all images of a repository; False: there is none."""
        found = False
        for image in self._service.catalog.all():
            for tag in map(Reference.parse, image.tags):
                if tag.name == name:
                    self._add(image, tag)
                    found = True
        return found

    def _add(self, image: Image, name: Reference | None) -> None:
        saved = self._found.setdefault(image.id, Saved(image, []))
        if name is not None and name not in saved.names:
            saved.names.append(name)

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the archive. The layers stay while it is written."""
        images = [saved.image for saved in self._found.values()]
        with self._service.lease([chain for image in images for chain in image.chain_ids]):
            yield _folder("blobs/") + _folder("blobs/sha256/")
            for image in images:
                async with aclosing(self._layers(image)) as pieces:
                    async for piece in pieces:
                        yield piece
            for piece in self._documents():
                yield piece
        yield _END

    async def _layers(self, image: Image) -> AsyncGenerator[bytes, None]:
        layers = self._service.layers
        for diff_id, chain in zip(image.config.rootfs.diff_ids, image.chain_ids, strict=True):
            if diff_id in self._sizes:
                continue
            async with layers.blobs.open_tar(layers.get(chain)) as (fd, size):
                self._sizes[diff_id] = size
                yield _header(_blob(diff_id), size)
                async with aclosing(_content(fd, size, diff_id)) as pieces:
                    async for piece in pieces:
                        yield piece

    def _documents(self) -> Iterator[bytes]:
        index: list[dict[str, Any]] = []
        entries: list[dict[str, Any]] = []
        repositories: dict[str, dict[str, str]] = {}
        for saved in self._found.values():
            image = saved.image
            created = _seconds(image.created)
            yield _file(_blob(image.id), image.document, created)
            manifest = msgspec.json.encode(self._manifest(image))
            digest = str(Digest.of(manifest))
            yield _file(_blob(digest), manifest, created)
            descriptor = {"mediaType": _MANIFEST, "digest": digest, "size": len(manifest)}
            index += _described(descriptor, saved.names)
            entries.append(self._docker_entry(saved))
            for name in saved.names:
                tags = repositories.setdefault(name.familiar_name, {})
                tags[name.tag or ""] = (image.chain_ids or (image.id,))[-1].partition(":")[2]
        layout = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": index}
        yield _file("index.json", msgspec.json.encode(layout))
        yield _file("manifest.json", msgspec.json.encode(entries))
        yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        if repositories:
            yield _file("repositories", msgspec.json.encode(repositories))

    def _layer_descriptor(self, diff_id: str) -> dict[str, Any]:
        return {"mediaType": _LAYER, "digest": diff_id, "size": self._sizes[diff_id]}

    def _manifest(self, image: Image) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": image.id, "size": len(image.document)},
            "layers": [self._layer_descriptor(d) for d in image.config.rootfs.diff_ids],
        }

    def _docker_entry(self, saved: Saved) -> dict[str, Any]:
        diff_ids = saved.image.config.rootfs.diff_ids
        return {
            "Config": _blob(saved.image.id),
            "RepoTags": [name.familiar for name in saved.names] or None,
            "Layers": [_blob(diff_id) for diff_id in diff_ids],
            "LayerSources": {diff_id: self._layer_descriptor(diff_id) for diff_id in diff_ids},
        }


def _described(descriptor: dict[str, Any], names: list[Reference]) -> list[dict[str, Any]]:
    """Return an entry of the index for each name, one without where there is none."""
    if not names:
        return [descriptor]
    return [
        {
            **descriptor,
            "annotations": {
                "io.containerd.image.name": str(name),
                "org.opencontainers.image.ref.name": name.tag or "",
            },
        }
        for name in names
    ]


async def _content(fd: int, size: int, diff_id: str) -> AsyncGenerator[bytes, None]:
    left = size
    os.set_blocking(fd, False)
    while left:
        piece = await read_some(fd)
        if not piece or len(piece) > left:
            raise DataLoss(f"save image: {diff_id}: the layer has not the size that is recorded")
        left -= len(piece)
        yield piece
    yield bytes(-size % _BLOCK)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _file(name: str, content: bytes, modified: int = 0) -> bytes:
    padding = bytes(-len(content) % _BLOCK)
    return _header(name, len(content), modified=modified) + content + padding


def _folder(name: str) -> bytes:
    return _header(name, 0, kind=b"5", mode=0o755)


def _header(
    name: str, size: int, *, modified: int = 0, kind: bytes = b"0", mode: int = 0o644
) -> bytes:
    """Return a header as POSIX ustar has it; sizes from 8 GiB on in GNU's binary form."""
    if size < 8**11:
        length = b"%011o\0" % size
    else:
        length = b"\x80" + size.to_bytes(11, "big")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0 * 2,
        length,
        b"%011o\0" % modified,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0 * 2,
    )
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _seconds(created: str) -> int:
    """Return when an image was built, in seconds; what is no time, or before 1970, is 0."""
    try:
        return max(0, times.parse_rfc3339(created) // 1_000_000_000) if created else 0
    except InvalidArgument:
        return 0
