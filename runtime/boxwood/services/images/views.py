"""Images as the Engine API shows them, in the newest form (``api`` knows the older ones)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.model.image import Image
from boxwood.model.moments import seconds_of
from boxwood.services.images.catalog import familiar
from boxwood.services.images.filters import created_seconds

if TYPE_CHECKING:
    from boxwood.store.layers import LayerStore

_NEVER = "0001-01-01T00:00:00Z"

__all__ = ["created_seconds", "history", "inspect", "summary"]


def summary(image: Image) -> dict[str, Any]:
    """Return an entry of the list."""
    return {
        "Containers": -1,
        "Created": int(created_seconds(image)),
        "Id": image.id,
        "Labels": image.config.config.labels or {},
        "ParentId": image.parent,
        "RepoDigests": [familiar(name) for name in image.digests],
        "RepoTags": [familiar(name) for name in image.tags],
        "SharedSize": -1,
        "Size": image.size,
    }


def inspect(image: Image, driver: str) -> dict[str, Any]:
    """Return all there is to say; ``Config`` is the document's own."""
    document = msgspec.json.decode(image.document, type=dict[str, Any])
    shown = {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.tags],
        "RepoDigests": [familiar(name) for name in image.digests],
        "Parent": image.parent,
        "Comment": image.config.comment or _last_comment(image),
        "Created": image.created or _NEVER,
        "DockerVersion": image.config.docker_version,
        "Author": image.config.author,
        "Config": document.get("config") or {},
        "Architecture": image.config.architecture,
        "Os": image.config.os or "linux",
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": list(image.config.rootfs.diff_ids)},
        "Metadata": {"LastTagTime": timestamp(image.tagged_at)},
    }
    if image.config.variant:
        shown["Variant"] = image.config.variant
    return shown


def _last_comment(image: Image) -> str:
    return image.config.history[-1].comment if image.config.history else ""


def timestamp(nanoseconds: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 with nanoseconds; 0: never."""
    if not nanoseconds:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def history(
    image: Image, layers: LayerStore, by_id: Callable[[str], Image | None]
) -> list[dict[str, Any]]:
    """Return the entries of the history, newest first.

    The newest has the image's id, those before it the ids of the images that it was built on here.
    """
    chains = list(image.chain_ids)
    entries = []
    for entry in image.config.history:
        size = 0
        if not entry.empty_layer and chains:
            size = layers.size([chains.pop(0)])
        entries.append(
            {
                "Comment": entry.comment,
                "Created": int(seconds_of(entry.created)),
                "CreatedBy": entry.created_by,
                "Id": "<missing>",
                "Size": size,
                "Tags": None,
            }
        )
    entries.reverse()
    built: Image | None = image
    for shown in entries:
        if built is None:
            break
        shown["Id"] = built.id
        shown["Tags"] = [familiar(name) for name in built.tags] or None
        built = by_id(built.parent) if built.parent else None
    return entries
