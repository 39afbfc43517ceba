"""The volume contract.

Terms
    *volume*: a named directory tree that outlives containers. *source*: what a container mounts
    of it. *user*: a container that has it mounted, by its id.

Life
    ``create`` (idempotent) → any number of ``mount(name, user)`` / ``unmount(name, user)`` pairs,
    for several users at once → ``remove``. The core keeps the records: names, labels, who uses
    what; it never asks for the removal of a volume in use. The driver keeps the data. After a
    crash ``reconcile`` is called with the users that are still there.

Example: a driver for volumes that are sub-directories of one big file system implements
``create``, ``remove``, ``mount`` and ``list``; ``unmount`` and ``reconcile`` have defaults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SEEDABLE = "seedable"
"""Capability: an empty volume is filled from the image's directory at its first use."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as its driver knows it.

    Attributes:
        mountpoint: where its files are on the host (for ``inspect``; may not be mounted yet).
        created: nanoseconds since the epoch.
        status: what the driver wants to show in ``inspect``.
    """

    name: str
    mountpoint: str
    created: int = 0
    options: dict[str, str] = {}
    status: dict[str, str] = {}


class VolumeDriver(ABC):
    """One kind of volumes. Coroutines may take long and must not block the loop."""

    name: ClassVar[str]
    capabilities: frozenset[str] = frozenset()

    @abstractmethod
    async def create(self, name: str, options: Mapping[str, str]) -> Volume:
        """Make the volume, or return the one that is there.

        Nothing is left behind when it raises.

        Raises:
            InvalidArgument: an option is unknown, missing or wrong.
            ResourceExhausted: no room.
        """

    @abstractmethod
    async def remove(self, name: str) -> Path | None:
        """Remove the volume. Idempotent; bounded by what a rename costs.

        Returns:
            a directory that holds what is left of it and that nobody can reach by the volume's
            name: the core has a worker delete it. None when nothing is left.

        Raises:
            Conflict: it is mounted.
        """

    @abstractmethod
    async def mount(self, name: str, user: str) -> Path:
        """Make the volume usable for ``user`` and return the directory to bind. Idempotent.

        Raises:
            NotFound: there is no such volume.
            Unavailable: its device or server does not answer; the message has the cause.
        """

    async def unmount(self, name: str, user: str) -> None:
        """``user`` is done with it. Idempotent; the default has nothing to do."""

    @abstractmethod
    async def list(self) -> list[Volume]:
        """Return every volume that is there, in no order."""

    def trash(self) -> Sequence[Path]:
        """Return what ``remove`` returned once and is still there after a crash."""
        return []

    async def reconcile(self, users: Mapping[str, set[str]]) -> Sequence[str]:
        """Undo the mounts of users that are gone.

        Args:
            users: for each volume, the ids that still use it.

        Returns:
            one sentence for each thing done.
        """
        return []
