"""The record of a volume."""

from __future__ import annotations

import msgspec

from boxwood.model.wire import Wire

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Set on volumes that the engine made without being given a name; what prune looks for."""


class VolumeRecord(Wire):
    """A volume as ``inspect`` shows it. ``created_at``: nanoseconds since the epoch."""

    name: str = msgspec.field(name="Name")
    driver: str = msgspec.field(name="Driver")
    mountpoint: str = msgspec.field(name="Mountpoint")
    created_at: int = 0
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")
    scope: str = msgspec.field(default="local", name="Scope")

    @property
    def anonymous(self) -> bool:
        """Whether it got its name from the engine."""
        return ANONYMOUS_LABEL in (self.labels or {})
