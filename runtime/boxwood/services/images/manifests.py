"""Manifests and indexes as strangers send them: read strictly, and the right one chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.descriptor import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.model.descriptor import Descriptor
    from boxwood.model.platform import Platform

_NO_PLATFORM = 1000
"""Rank of an entry that says no platform: after all that fit."""


def parse(where: str, data: bytes) -> Manifest:
    """Return a manifest or an index; ``where`` begins the errors.

    Raises:
        InvalidArgument: it is neither, or both.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"{where}: {error}") from error
    if manifest.manifests is not None and (manifest.layers is not None or manifest.config):
        # Two readings of one document (CVE-2021-41190).
        raise InvalidArgument(f"{where}: both an index and a manifest")
    return manifest


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an entry of an index is about an image, and none itself."""
    platform = descriptor.platform
    annotations = descriptor.annotations or {}
    unknown = platform is not None and (platform.os, platform.architecture) == (
        "unknown",
        "unknown",
    )
    return unknown or annotations.get("vnd.docker.reference.type") == "attestation-manifest"


def best(entries: Iterable[Descriptor], machine: Platform) -> Descriptor | None:
    """Return the entry of an index that fits a machine best, the first of equals; None: none."""
    ranked = [
        (rank, at, entry)
        for at, entry in enumerate(entries)
        if not is_attestation(entry)
        and (rank := machine.rank(entry.platform) if entry.platform else _NO_PLATFORM) is not None
    ]
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None
