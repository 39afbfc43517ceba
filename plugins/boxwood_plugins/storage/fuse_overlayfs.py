"""Snapshots as branches in overlay's form, stacked by fuse-overlayfs in a process.

For places where the kernel's own overlay cannot be: upon another overlay, in user namespaces of
kernels before 5.11, on file systems that it refuses. Slower than the kernel's; see ``_fuse.py``.

What fuse-overlayfs 1.10 itself does not do right, here and in aufs's place: the first change of a
pipe's or a device's attributes that a lower layer brought answers EIO (the second works), and on
rare occasions a directory that was emptied is said not to be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    ID_MAP,
    PARALLEL_APPLY,
    SHARED_PARENT,
    VOLATILE,
    StorageDriver,
    UnpackTarget,
)
from boxwood.errors import InvalidArgument
from boxwood_plugins.storage._branches import file_system_of
from boxwood_plugins.storage._fuse import FuseBranchDriver


class FuseOverlayfsDriver(FuseBranchDriver):
    """See the module."""

    name: ClassVar[str] = "fuse-overlayfs"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {PARALLEL_APPLY, VOLATILE, SHARED_PARENT, ID_MAP}
    )

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Layers go straight into the branch, whiteouts in overlay's form."""
        return UnpackTarget(self._directory(self.stat(key)) / "fs", "overlay", self.user_xattr)

    def describe(self) -> list[tuple[str, str]]:
        """Say who serves."""
        return [
            ("Backing Filesystem", file_system_of(self.root)),
            ("Served by", f"fuse-overlayfs {self.program.version}"),
            ("userxattr", "true" if self.user_xattr else "false"),
        ]


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for."""
    if name != FuseOverlayfsDriver.name:
        return None
    for option in options:
        raise InvalidArgument(f"storage driver fuse-overlayfs: {option}: unknown option")
    return FuseOverlayfsDriver(root)


@hookimpl
def storage_rank(name: str) -> int | None:
    """Say how much it is to be preferred when nobody has chosen."""
    return 40 if name == FuseOverlayfsDriver.name else None
