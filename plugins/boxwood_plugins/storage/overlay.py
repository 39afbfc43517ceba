"""Snapshots as branches of the kernel's overlay file system.

Whiteouts in the branches have the form of the kernel's overlay.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    MOUNTS_ONLY,
    PARALLEL_APPLY,
    SHARED_PARENT,
    VOLATILE,
    Branch,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    UnpackTarget,
)
from boxwood.errors import InvalidArgument, Unavailable
from boxwood_ext import mount
from boxwood_plugins.storage._branches import BranchDriver, file_system_of, in_user_namespace

# Copying up must give whole, self-contained files: layers are read without the mount.
_PLAIN = ("index=off", "metacopy=off", "redirect_dir=off")


class OverlayDriver(BranchDriver):
    """See the module; the life of a snapshot is :class:`BranchDriver`'s."""

    name: ClassVar[str] = "overlay"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {MOUNTS_ONLY, PARALLEL_APPLY, VOLATILE, SHARED_PARENT}
    )
    # Lower directories that the kernel stacks (fs/overlayfs/super.c, OVL_MAX_STACK).
    layer_limit: ClassVar[int] = 500

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.user_xattr = in_user_namespace()
        self._check()

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """Stack the branches; a single one is bound."""
        if info.kind is Kind.ACTIVE and not parents:
            return [Mount("bind", str(directory / "fs"))]
        if len(parents) < 2 and info.kind is Kind.VIEW:
            return [Mount("bind", str((parents[0] if parents else directory) / "fs"), ("ro",))]
        options = [f"lowerdir+={parent / 'fs'}" for parent in parents]
        if info.kind is Kind.ACTIVE:
            options += [f"upperdir={directory / 'fs'}", f"workdir={directory / 'work'}"]
        options += _PLAIN
        if self.user_xattr:
            options.append("userxattr")
        if info.kind is Kind.VIEW:
            options.append("ro")
            return [Mount("overlay", "overlay", tuple(options))]
        # The mark that a volatile mount leaves: the kernel refuses the next one until it is gone.
        shutil.rmtree(directory / "work/work/incompat", ignore_errors=True)
        if info.options.volatile:
            options.append("volatile")
        return [Mount("overlay", "overlay", tuple(options))]

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Layers go straight into the branch, whiteouts in overlay's form."""
        return UnpackTarget(self._directory(self.stat(key)) / "fs", "overlay", self.user_xattr)

    def branch(self, key: str) -> Branch | None:
        """Every snapshot's directory holds just its own changes."""
        return Branch(self._directory(self.stat(key)) / "fs", "overlay", self.user_xattr)

    def describe(self) -> list[tuple[str, str]]:
        """Say what Docker's overlay2 says."""
        return [
            ("Backing Filesystem", file_system_of(self.root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "true" if self.user_xattr else "false"),
        ]

    def _check(self) -> None:
        """Mount a tiny overlay here, so that a file system that cannot says so at start."""
        trial = self.root / "new" / f"check.{secrets.token_hex(4)}"
        try:
            for part in ("low1", "low2", "up", "work"):
                (trial / part).mkdir(parents=True)
            # The kernel mounts without (ramfs, some network file systems), and then directories
            # that were removed and made again show what is below them.
            space = "user" if self.user_xattr else "trusted"
            os.setxattr(trial / "up", f"{space}.overlay.boxwood", b"y")
            self._try_mount(trial)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return  # a full disk says nothing of its kind, and is no reason not to serve
            raise Unavailable(
                f"storage driver overlay: {self.root}: cannot hold an overlay "
                f"({file_system_of(self.root)}: {error.strerror or error}); put the data root on "
                "ext4, xfs, btrfs or tmpfs, or use --storage-driver vfs"
            ) from error
        finally:
            shutil.rmtree(trial, ignore_errors=True)

    def _try_mount(self, trial: Path) -> None:
        context = mount.fsopen("overlay")
        try:
            # In one string, short by relative names: every kernel takes that.
            with _working_directory(trial):
                options = ["lowerdir=low1:low2", "upperdir=up", "workdir=work", *_PLAIN]
                for key, _, value in (option.partition("=") for option in options):
                    mount.fsconfig_string(context, key, value)
                mount.fsconfig_flag(context, "volatile")
                if self.user_xattr:
                    mount.fsconfig_flag(context, "userxattr")
                mount.fsconfig_create(context)
            os.close(mount.fsmount(context))
        finally:
            os.close(context)


class _working_directory:  # noqa: N801 - used as a function
    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = -1

    def __enter__(self) -> None:
        self._before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir(self._path)

    def __exit__(self, *_: object) -> None:
        os.fchdir(self._before)
        os.close(self._before)


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for."""
    if name != OverlayDriver.name:
        return None
    for option in options:
        raise InvalidArgument(f"storage driver overlay: {option}: unknown option")
    return OverlayDriver(root)
