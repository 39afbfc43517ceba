"""Images: the config document of an image, and what the engine knows of a local image.

The bytes of a config are kept as they came: its digest is the image's ID, and writing it again
would change it. What is parsed here is only for reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from boxwood.errors import InvalidArgument, NotFound
from boxwood.model.config import ContainerConfig
from boxwood.model.descriptor import DOCUMENT_LIMIT
from boxwood.model.digest import Digest, chain_ids
from boxwood.model.platform import Platform
from boxwood.model.wire import Wire

LAYER_LIMIT = 499
"""Layers of an image: overlay stacks 500 (fs/overlayfs, OVL_MAX_STACK), one is the init layer."""


class History(Wire):
    """How one layer, or a change of the config alone, came to be."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(Wire):
    """The layers of the image, bottom to top, by the digests of their uncompressed tars."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class ImageConfig(Wire):
    """An image's config (OCI image-spec config.md, Docker's container.image.v1)."""

    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    parent: str = ""
    config: ContainerConfig = ContainerConfig()
    rootfs: RootFS = RootFS()
    history: tuple[History, ...] = ()

    @classmethod
    def parse(cls, document: bytes) -> ImageConfig:
        """Parse a config leniently: nulls count as absent, a string as a list where Docker does.

        Raises:
            InvalidArgument: no JSON object, a field of another type, digests that are none,
                history and layers that do not add up, more than 499 layers.
        """
        if len(document) > DOCUMENT_LIMIT:
            raise InvalidArgument("parse image config: larger than 8 MiB")
        try:
            raw = msgspec.json.decode(document, type=dict[str, Any])
            parsed = msgspec.convert(_without_nulls(raw), cls, strict=False)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"parse image config: {error}") from error
        _check(parsed)
        return parsed


def _check(config: ImageConfig) -> None:
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) > LAYER_LIMIT:
        raise InvalidArgument(f"parse image config: {len(diff_ids)} layers: at most {LAYER_LIMIT}")
    for diff_id in diff_ids:
        Digest.parse(diff_id)
    filled = sum(not entry.empty_layer for entry in config.history)
    if config.history and filled != len(diff_ids):
        raise InvalidArgument(
            f"parse image config: {filled} history entries with a layer, {len(diff_ids)} layers"
        )


def _without_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    top = {key: value for key, value in raw.items() if value is not None}
    config = top.get("config")
    if isinstance(config, dict):
        top["config"] = _run_config(config)
    if isinstance(top.get("rootfs"), dict):
        top["rootfs"] = _dense(top["rootfs"])
    if isinstance(top.get("history"), list):
        top["history"] = [_dense(entry) for entry in top["history"] if isinstance(entry, dict)]
    return top


def _dense(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value is not None}


def _run_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    config = _dense(raw)
    for key in ("Cmd", "Entrypoint", "Shell", "OnBuild"):
        if isinstance(config.get(key), str):
            config[key] = [config[key]]
    for key in ("ExposedPorts", "Volumes"):
        if isinstance(config.get(key), dict):
            config[key] = {name: value or {} for name, value in config[key].items()}
    if isinstance(config.get("Healthcheck"), dict):
        config["Healthcheck"] = _dense(config["Healthcheck"])
    # Of the engine that built it, never of the container made from it.
    config.pop("Image", None)
    return config


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is here: its layers are unpacked, its config is stored."""

    id: str
    """Digest of the config's bytes."""
    document: bytes
    """The config as it came."""
    config: ImageConfig
    tags: tuple[str, ...] = ()
    """Canonical references with a tag, sorted."""
    digests: tuple[str, ...] = ()
    """Canonical references with a digest (``name@sha256:...``)."""
    size: int = 0
    """Bytes of all layers unpacked."""
    loaded_at: int = 0
    """Nanoseconds since the epoch: when it came here."""
    tagged_at: int = 0
    """Nanoseconds since the epoch of the last tagging, 0: never."""
    parent: str = ""
    """Image ID of the image it was built on here, if any."""

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """Chain IDs of the layers, bottom to top."""
        return chain_ids(self.config.rootfs.diff_ids)

    @property
    def hex(self) -> str:
        """The id without its algorithm, 64 characters."""
        return self.id.partition(":")[2]

    @property
    def created(self) -> str:
        """When it was built, RFC 3339, may be empty."""
        return self.config.created

    def check_platform(self, ref: str, wanted: Platform) -> None:
        """Have it be one for a platform; one that names no architecture is for any.

        Args:
            ref: what it was asked for by.

        Raises:
            NotFound: in Docker's words; its client goes and pulls the one that is wanted.
        """
        config = self.config
        found = Platform(
            os=config.os or "linux", architecture=config.architecture, variant=config.variant
        ).normal()
        if found.architecture and wanted.rank(found) is None:
            raise NotFound(
                f"image with reference {ref} was found but its platform ({found}) does not match "
                f"the specified platform ({wanted})"
            )
