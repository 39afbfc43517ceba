"""Snapshots as branches in aufs's own form.

The kernel's aufs stacks them where the kernel has it. Elsewhere fuse-overlayfs stacks the very
same branches: it reads the marks of aufs in lower branches. So layers of aufs live on any kernel,
and what was made under one is read under the other. ``info`` says which is at work.

A committed branch has aufs's form always. What fuse-overlayfs writes into an active one is
converted on commit, and before the kernel's aufs mounts it. See ``_fuse.py`` and
``_aufs_mount.py``.

Under the kernel's aufs an active snapshot stays mounted on ``mnt/KEY`` from its first use until it
is committed or removed: its pseudo-links have to be flushed while it is mounted. Containers get
clones of that mount.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    ID_MAP,
    PARALLEL_APPLY,
    SHARED_PARENT,
    VOLATILE,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    UnpackTarget,
    as_boxwood_error,
)
from boxwood.errors import InvalidArgument, Unavailable
from boxwood_ext import mount
from boxwood_plugins.storage import _aufs_mount as calls
from boxwood_plugins.storage._branches import BranchDriver, file_system_of
from boxwood_plugins.storage._fuse import FuseBranchDriver

XINO_FOLDER = "/dev/shm"
"""Always a tmpfs; aufs warns of anything else."""


class AufsDriver(FuseBranchDriver):
    """aufs's branches, stacked by fuse-overlayfs."""

    name: ClassVar[str] = "aufs"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {PARALLEL_APPLY, VOLATILE, SHARED_PARENT, ID_MAP}
    )
    form = "aufs"

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Layers go straight into the branch; their whiteouts have aufs's form already."""
        return UnpackTarget(self._directory(self.stat(key)) / "fs", "aufs")

    def describe(self) -> list[tuple[str, str]]:
        """Say who stacks."""
        return [
            ("Backing Filesystem", file_system_of(self.root)),
            ("Stacked by", f"fuse-overlayfs {self.program.version} (this kernel has no aufs)"),
        ]


class KernelAufsDriver(AufsDriver):
    """aufs's branches, stacked by the kernel."""

    capabilities: ClassVar[frozenset[str]] = frozenset({PARALLEL_APPLY, SHARED_PARENT})
    layer_limit: ClassVar[int] = calls.BRANCH_LIMIT - 1

    def __init__(self, root: Path) -> None:
        calls.check_path(str(root))
        super().__init__(root)
        (root / "mnt").mkdir(mode=0o700, exist_ok=True)

    def _find_server(self) -> None:
        """There is none."""

    async def open_root(self, key: str, *, volatile: bool = False) -> int:
        """Clone the mount of the snapshot, which is made if it is not there."""
        del volatile  # promises less; aufs has nothing of the kind
        BranchDriver.mounts(self, key)  # the same errors as everywhere
        info = self.stat(key)
        if info.parent is None:
            flags = ("ro",) if info.kind is Kind.VIEW else ()
            return self.mounter([Mount("bind", str(self._directory(info) / "fs"), flags)])
        place = self.root / "mnt" / key
        try:
            if not _is_mounted(place):
                await self._make_own(info)
                place.mkdir(mode=0o700, exist_ok=True)
                await calls.carry_out(self._steps(info, place))
            return mount.open_tree(mount.AT_FDCWD, place, mount.OPEN_TREE_CLONE)
        except OSError as error:
            raise as_boxwood_error("mount root", key, error) from error

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        """The tree of any snapshot: as everywhere, for a mount is shared here."""
        async with StorageDriver.opened(self, key) as root:
            yield root

    async def commit(self, key: str, name: str) -> None:
        """Flush the pseudo-links, unmount, freeze; see the contract."""
        info = self.stat(key)
        if info.kind is Kind.ACTIVE:
            self._check_free(name)
            await self._unmount(key)
        await super().commit(key, name)

    def remove(self, key: str) -> None:
        """Let go of the mount, then as everywhere."""
        super().remove(key)
        self._detach(key)

    async def cleanup(self) -> int:
        """Also of what is mounted for no snapshot any more."""
        for place in (self.root / "mnt").iterdir():
            if place.name not in self._known:
                self._detach(place.name)
        return await super().cleanup()

    def describe(self) -> list[tuple[str, str]]:
        """Say what Docker's aufs said."""
        return [
            ("Root Dir", str(self.root)),
            ("Backing Filesystem", file_system_of(self.root)),
            ("Dirs", str(len(self._known))),
            ("Dirperm1 Supported", "true"),
            ("Stacked by", "aufs of the kernel"),
        ]

    def _steps(self, info: SnapshotInfo, place: Path) -> list[calls.Step]:
        upper = self._directory(info) / "fs" if info.kind is Kind.ACTIVE else None
        name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
        return calls.mount_steps(
            str(place),
            str(upper) if upper is not None else None,
            [str(parent / "fs") for parent in self._parents(info.parent)],
            f"{XINO_FOLDER}/boxwood-{name}.xino",
        )

    async def _make_own(self, info: SnapshotInfo) -> None:
        """Convert what fuse-overlayfs has written into the branch under another kernel."""
        if info.kind is Kind.ACTIVE and self._mark(info).exists():
            await self._convert(info)

    async def _unmount(self, key: str) -> None:
        place = self.root / "mnt" / key
        if _is_mounted(place):
            try:
                await calls.carry_out(calls.unmount_steps(str(place)))
            except OSError as error:
                raise as_boxwood_error("unmount snapshot", key, error) from error
        self._detach(key)

    def _detach(self, key: str) -> None:
        place = self.root / "mnt" / key
        try:
            if _is_mounted(place):
                calls.call(calls.detach(str(place)))
            with suppress(FileNotFoundError):
                place.rmdir()
        except OSError as error:
            raise as_boxwood_error("unmount snapshot", key, error) from error


def _is_mounted(place: Path) -> bool:
    try:
        return place.stat().st_dev != place.parent.stat().st_dev
    except FileNotFoundError:
        return False


def kernel_has_aufs() -> bool:
    """Does the running kernel have aufs, built in or loaded?"""
    lines = Path("/proc/filesystems").read_text().splitlines()
    return "aufs" in (line.split()[-1] for line in lines if line)


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for; ``stacked-by=kernel|fuse-overlayfs`` chooses."""
    if name != AufsDriver.name:
        return None
    choice = ""
    for option, value in options.items():
        if option != "stacked-by":
            raise InvalidArgument(f"storage driver aufs: {option}: unknown option")
        if value not in ("kernel", "fuse-overlayfs"):
            raise InvalidArgument(f"storage driver aufs: {option}: {value}: no such way")
        choice = value
    here = kernel_has_aufs()
    if choice == "kernel" and not here:
        raise Unavailable("storage driver aufs: this kernel has no aufs (modprobe aufs)")
    return KernelAufsDriver(root) if here and choice != "fuse-overlayfs" else AufsDriver(root)
