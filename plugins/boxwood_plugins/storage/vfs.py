"""Snapshots as whole copies: works on every file system, costs a copy each.

The copy is made by a worker, sharing blocks where the file system can (FICLONE) and copying in the
kernel elsewhere; hard links, holes, attributes and times are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    MOUNTS_ONLY,
    VOLATILE,
    DirectoryDriver,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    UnpackTarget,
    open_directory,
)
from boxwood.errors import InvalidArgument


class VfsDriver(DirectoryDriver):
    """See the module; the life of a snapshot is :class:`DirectoryDriver`'s."""

    name: ClassVar[str] = "vfs"
    # Volatile costs nothing here: a bind mount never syncs.
    capabilities: ClassVar[frozenset[str]] = frozenset({MOUNTS_ONLY, VOLATILE})

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Copy the parent; a view needs no copy of its own."""
        tree = directory / "fs"
        tree.mkdir()
        tree.chmod(0o755)
        if parents and info.kind is Kind.ACTIVE:
            with (
                open_directory(parents[0] / "fs") as source,
                open_directory(tree) as target,
                (directory / "copied").open("xb") as record,
            ):
                await self.offload("copy_tree", {}, [source, target, record.fileno()])

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """Bind the tree."""
        if info.kind is Kind.VIEW:
            return [Mount("bind", str((parents[0] if parents else directory) / "fs"), ("ro",))]
        return [Mount("bind", str(directory / "fs"))]

    def measured(self, directory: Path) -> Path:
        """Count the whole tree: nothing of it is shared."""
        return directory / "fs"

    def copy_record(self, key: str) -> Path | None:
        """What nobody has touched since the copy is not compared."""
        return self._directory(self.stat(key)) / "copied"

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Layers go straight into the copy; their whiteouts delete."""
        return UnpackTarget(self._directory(self.stat(key)) / "fs", "delete")


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for."""
    if name != VfsDriver.name:
        return None
    for option in options:
        raise InvalidArgument(f"storage driver vfs: {option}: unknown option")
    return VfsDriver(root)


@hookimpl
def storage_rank(name: str) -> int | None:
    """Say how much it is to be preferred when nobody has chosen."""
    return 10 if name == VfsDriver.name else None
