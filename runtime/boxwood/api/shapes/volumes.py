"""Volumes as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.model import times

if TYPE_CHECKING:
    from boxwood.model.volume import VolumeRecord


def volume(record: VolumeRecord) -> dict[str, Any]:
    """Return the ``Volume`` object."""
    return {
        "CreatedAt": times.rfc3339(record.created_at // times.SECOND * times.SECOND),
        "Driver": record.driver,
        "Labels": record.labels,
        "Mountpoint": record.mountpoint,
        "Name": record.name,
        "Options": record.options,
        "Scope": "local",
    }
