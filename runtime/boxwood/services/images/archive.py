"""What an archive of images holds: ``docker save``'s two shapes and the OCI image layout.

The archive has been split into files of a private directory by a worker. Paths in its documents
are a stranger's: they are opened beneath that directory, links inside it resolve inside it, and
only regular files count. Sources: facts/formats-and-protocols.md section 5; OCI image-spec
image-layout.md.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Self

import msgspec

from boxwood.drivers.documents import best, is_attestation, parse
from boxwood.errors import InvalidArgument, NotFound, TooLarge
from boxwood.model.descriptor import (
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    Descriptor,
)
from boxwood.model.digest import Digest
from boxwood.model.image import LAYER_LIMIT, ImageConfig
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference
from boxwood_ext import mount

_IN_ROOT = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
_DEPTH_LIMIT = 4
"""Indexes within indexes."""
_IMAGES_LIMIT = 1000
"""Images of one archive."""
_CONTAINERD_NAME = "io.containerd.image.name"
_OCI_NAME = "org.opencontainers.image.ref.name"


class ArchivedLayer(msgspec.Struct, frozen=True):
    """Where a layer's bytes lie in the archive, and their digest if it says so."""

    path: str
    digest: str = ""


class ArchivedImage(msgspec.Struct, frozen=True):
    """An image of the archive; its config is verified, its layers are not yet."""

    document: bytes
    config: ImageConfig
    layers: tuple[ArchivedLayer, ...]
    names: tuple[Reference, ...]


class _DockerEntry(msgspec.Struct, frozen=True):
    config: str = msgspec.field(name="Config")
    repo_tags: tuple[str, ...] | None = msgspec.field(default=None, name="RepoTags")
    layers: tuple[str, ...] | None = msgspec.field(default=None, name="Layers")


class Archive:
    """The files of an archive; ``with Archive(directory) as archive``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def open(self, path: str) -> int:
        """Return a descriptor of a regular file of the archive; the caller closes it.

        Raises:
            NotFound: there is none of that name.
            InvalidArgument: it is no regular file, or the name is none.
        """
        try:
            found = mount.openat2(
                self._fd, path.lstrip("/") or ".", os.O_RDONLY | os.O_NONBLOCK, resolve=_IN_ROOT
            )
        except (OSError, ValueError) as error:
            raise NotFound(f"load image: {path[:300]}: not in the archive") from error
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise InvalidArgument(f"load image: {path[:300]}: not a regular file")
        return found

    def read(self, path: str) -> bytes:
        """Return a document; raises NotFound, InvalidArgument, TooLarge (8 MiB)."""
        with os.fdopen(self.open(path), "rb") as file:
            data = file.read(DOCUMENT_LIMIT + 1)
        if len(data) > DOCUMENT_LIMIT:
            raise TooLarge(f"load image: {path[:300]}: larger than {DOCUMENT_LIMIT} bytes")
        return data

    def has(self, path: str) -> bool:
        """Is there a regular file of that name?"""
        try:
            os.close(self.open(path))
        except (NotFound, InvalidArgument):
            return False
        return True

    def images(self) -> list[ArchivedImage]:
        """Return what the archive holds, in its order.

        Raises:
            InvalidArgument: it is none of the shapes, or contradicts itself.
        """
        if self.has("manifest.json"):
            return self._docker()
        if self.has("index.json"):
            return self._oci()
        raise InvalidArgument(
            "load image: the archive holds neither manifest.json (docker save) nor index.json "
            "(OCI layout); a plain file tree is for docker import"
        )

    def _docker(self) -> list[ArchivedImage]:
        entries = _decode("manifest.json", self.read("manifest.json"), list[_DockerEntry])
        if len(entries) > _IMAGES_LIMIT:
            raise TooLarge(f"load image: more than {_IMAGES_LIMIT} images in one archive")
        return [self._docker_image(entry) for entry in entries]

    def _docker_image(self, entry: _DockerEntry) -> ArchivedImage:
        document = self.read(entry.config)
        _check_named_by_digest(entry.config, document)
        layers = tuple(ArchivedLayer(path) for path in entry.layers or ())
        names = tuple(_tagged(name) for name in entry.repo_tags or ())
        return _image(document, layers, names)

    def _oci(self) -> list[ArchivedImage]:
        index = parse("load image: index.json", self.read("index.json"))
        if index.manifests is None:
            raise InvalidArgument("load image: index.json: no manifests")
        found: list[ArchivedImage] = []
        for descriptor in index.manifests:
            if is_attestation(descriptor):
                continue
            found.append(self._oci_image(descriptor, _names(descriptor), 0))
            if len(found) > _IMAGES_LIMIT:
                raise TooLarge(f"load image: more than {_IMAGES_LIMIT} images in one archive")
        return found

    def _oci_image(
        self, descriptor: Descriptor, names: tuple[Reference, ...], depth: int
    ) -> ArchivedImage:
        data = self._blob(descriptor)
        manifest = parse(f"load image: {descriptor.digest}", data)
        if manifest.media_type and manifest.media_type != descriptor.media_type:
            raise InvalidArgument(
                f"load image: {descriptor.digest}: is {manifest.media_type}, its descriptor says "
                f"{descriptor.media_type}"
            )
        if descriptor.media_type in INDEXES and manifest.manifests is not None:
            if depth >= _DEPTH_LIMIT:
                raise InvalidArgument(f"load image: {descriptor.digest}: indexes too deep")
            return self._oci_image(self._chosen(manifest.manifests), names, depth + 1)
        if descriptor.media_type not in MANIFESTS or manifest.config is None:
            raise InvalidArgument(f"load image: {descriptor.digest}: not an image's manifest")
        layers = tuple(
            ArchivedLayer(_blob_path(layer.digest), layer.digest) for layer in manifest.layers or ()
        )
        return _image(self._blob(manifest.config), layers, names)

    def _chosen(self, manifests: tuple[Descriptor, ...]) -> Descriptor:
        """Return the one for this machine of those that are in the archive."""
        host = Platform.host()
        there = (
            entry
            for entry in manifests
            if not is_attestation(entry) and self.has(_blob_path(entry.digest))
        )
        if (chosen := best(there, host)) is None:
            raise NotFound(f"load image: no image for {host} in the archive")
        return chosen

    def _blob(self, descriptor: Descriptor) -> bytes:
        digest = Digest.parse(descriptor.digest)
        data = self.read(_blob_path(digest))
        if len(data) != descriptor.size or Digest.of(data, digest.algorithm) != digest:
            raise InvalidArgument(f"load image: {digest}: the blob has another size or digest")
        return data


def _image(
    document: bytes, layers: tuple[ArchivedLayer, ...], names: tuple[Reference, ...]
) -> ArchivedImage:
    config = ImageConfig.parse(document)
    wanted = len(config.rootfs.diff_ids)
    if len(layers) != wanted or len(layers) > LAYER_LIMIT:
        raise InvalidArgument(
            f"invalid manifest, layers length mismatch: expected {len(layers)}, got {wanted}"
        )
    if config.os not in ("", "linux"):
        raise InvalidArgument(f"cannot load {config.os} image on linux")
    return ArchivedImage(document, config, layers, names)


def _decode(name: str, data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"load image: {name}: {error}") from error


def _blob_path(digest: str) -> str:
    parsed = Digest.parse(digest)
    return f"blobs/{parsed.algorithm}/{parsed.hex}"


def _check_named_by_digest(path: str, document: bytes) -> None:
    """``blobs/sha256/<hex>`` and ``<hex>.json`` say what the config must be."""
    stem = path.rpartition("/")[2].removesuffix(".json")
    try:
        wanted = Digest.parse(f"sha256:{stem}")
    except InvalidArgument:
        return
    if Digest.of(document) != wanted:
        raise InvalidArgument(f"load image: {path}: the config has another digest")


def _tagged(text: str) -> Reference:
    reference = Reference.parse(text)
    if reference.tag is None or reference.digest is not None:
        raise InvalidArgument(f"load image: {text[:300]}: invalid tag in the archive")
    return reference


def _names(descriptor: Descriptor) -> tuple[Reference, ...]:
    annotations = descriptor.annotations or {}
    text = annotations.get(_CONTAINERD_NAME, "")
    if not text:
        # A bare tag names nothing: the repository is not known.
        text = annotations.get(_OCI_NAME, "")
        if "/" not in text and ":" not in text:
            return ()
    return (Reference.parse(text).with_default_tag(),)
