"""Descriptors and media types (OCI image-spec descriptor.md; Docker's image manifest v2.2)."""

from __future__ import annotations

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.digest import Digest
from boxwood.model.platform import Platform
from boxwood.model.wire import Wire

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIGS = {OCI_MANIFEST: OCI_CONFIG, DOCKER_MANIFEST: DOCKER_CONFIG}
"""The type of the config that goes with a type of manifest."""

DOCUMENT_LIMIT = 8 << 20
"""Bytes of a manifest, index or config that are read at most (CVE-2021-20291 class)."""


class Descriptor(Wire):
    """A pointer to content: what it is, its digest and its size in bytes.

    ``digest`` is as it was written; whoever follows it parses it first.
    """

    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str = ""
    size: int = 0
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = msgspec.field(default="", name="artifactType")


class Manifest(Wire):
    """An image manifest or an index, whichever fields are there.

    A document that has both shapes is refused by who reads it (CVE-2021-41190).
    """

    schema_version: int = msgspec.field(default=2, name="schemaVersion")
    media_type: str = msgspec.field(default="", name="mediaType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None

    def check_layers(self, where: str) -> None:
        """Raise InvalidArgument, which begins with ``where``, for a layer that can be none."""
        for layer in self.layers or ():
            Digest.parse(layer.digest)
            if layer.size < 0:
                raise InvalidArgument(f"{where}: a layer of {layer.size} bytes")

    def is_of(self, image: str, layers: int) -> bool:
        """Is it the manifest of the image with this id and so many layers?"""
        return (
            self.config is not None
            and self.config.digest == image
            and self.media_type in ("", *MANIFESTS)
            and len(self.layers or ()) == layers
        )
