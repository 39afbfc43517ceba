"""Snapshots as branches of the kernel's overlay file system.

Whiteouts in the branches have the form of the kernel's overlay.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    ID_MAP,
    MOUNTS_ONLY,
    PARALLEL_APPLY,
    QUOTA,
    SHARED_PARENT,
    VOLATILE,
    Branch,
    IdMap,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    UnpackTarget,
)
from boxwood.errors import InvalidArgument, Unavailable, Unsupported
from boxwood_ext import mount
from boxwood_plugins.storage._branches import BranchDriver, file_system_of, in_user_namespace
from boxwood_plugins.storage._project_quota import Projects, enforced

# Copying up must give whole, self-contained files: layers are read without the mount.
_PLAIN = ("index=off", "metacopy=off", "redirect_dir=off")
# This says the same, and conflicts with being told to (ovl_fs_params_verify).
_PLAIN_USER = ("index=off", "userxattr")


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

    async def commit(self, key: str, name: str) -> None:
        """As everywhere; raises Unsupported where what is on disk has mapped ids."""
        if self.stat(key).options.id_map:
            # Upper branches cannot be mapped: the kernel itself writes into them, as root.
            raise Unsupported(f"commit snapshot: {key}: its files have mapped ids")
        await super().commit(key, name)

    def root_owner(self, uid: int, gid: int, info: SnapshotInfo) -> tuple[int, int]:
        """Map the owner: the upper branch has ids on disk as the tree shows them."""
        return _outside(uid, info.options.id_map), _outside(gid, info.options.id_map)

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
        options += _PLAIN_USER if self.user_xattr else _PLAIN
        if info.kind is Kind.VIEW:
            options.append("ro")
            return [Mount("overlay", "overlay", tuple(options))]
        # The mark that a volatile mount leaves: the kernel refuses the next one until it is gone.
        shutil.rmtree(directory / "work/work/incompat", ignore_errors=True)
        if info.options.volatile:
            options.append("volatile")
        return [Mount("overlay", "overlay", tuple(options), info.options.id_map)]

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[int]:
        """The tree of any snapshot, to read it; an active one may be mounted meanwhile.

        The branch is shown as the topmost of read-only ones: an upper directory that is mounted
        twice is what the kernel calls undefined, or refuses (``index=on``).
        """
        info = self.stat(key)
        parents = self._parents(info.parent)
        if (
            info.kind is not Kind.ACTIVE
            or info.options.id_map  # it is on disk as mapped, the others are not
            or len(parents) >= self.layer_limit  # no room for one more
        ):
            async with super().opened(key) as root:
                yield root
            return
        shown = SnapshotInfo(key, Kind.VIEW, info.parent)
        directory = self._directory(info)
        root = self.mounter(self.mounts_of(directory, [directory, *parents], shown))
        try:
            yield root
        finally:
            os.close(root)

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
            ("Quota per container", "true" if QUOTA in self.capabilities else "false"),
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
                plain = _PLAIN_USER if self.user_xattr else _PLAIN
                for option in ("lowerdir=low1:low2", "upperdir=up", "workdir=work", *plain):
                    key, equals, value = option.partition("=")
                    if equals:
                        mount.fsconfig_string(context, key, value)
                    else:
                        mount.fsconfig_flag(context, key)
                mount.fsconfig_flag(context, "volatile")
                mount.fsconfig_create(context)
            os.close(mount.fsmount(context))
        finally:
            os.close(context)


class MappingOverlayDriver(OverlayDriver):
    """Where the kernel and the file system let lower branches be mounted with mapped ids."""

    capabilities: ClassVar[frozenset[str]] = OverlayDriver.capabilities | {ID_MAP}


class QuotaOverlayDriver(MappingOverlayDriver):
    """On an xfs with project quotas: upper and work directory are a project with a limit."""

    capabilities: ClassVar[frozenset[str]] = MappingOverlayDriver.capabilities | {QUOTA}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        folders = [root / part for part in (*Kind, "new", "trash")]
        self._projects = Projects(root, folders)

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Make the branch, limited before anything is in it."""
        await super().fill(directory, parents, info)
        if info.options.size_limit:
            self._projects.begin(info.options.size_limit, directory / "fs", directory / "work")

    async def commit(self, key: str, name: str) -> None:
        """As everywhere; what is immutable needs no limit."""
        limited = self.stat(key).options.size_limit
        await super().commit(key, name)
        if limited:
            self._projects.end(self._projects.of(self._directory(self.stat(name)) / "fs"))

    def remove(self, key: str) -> None:
        """As everywhere; the limit goes too, that its record in the file system can."""
        info = self.stat(key)
        branch = self._directory(info) / "fs"
        project = self._projects.of(branch) if info.options.size_limit else 0
        super().remove(key)
        self._projects.end(project)


def _outside(identity: int, id_map: Sequence[IdMap]) -> int:
    for part in id_map:
        if part.inside <= identity < part.inside + part.size:
            return part.outside + identity - part.inside
    return identity


def best_for(root: Path) -> type[OverlayDriver]:
    """Return the class that can do what kernel and file system can do at ``root``."""
    if not _maps_ids(root):
        return OverlayDriver
    return QuotaOverlayDriver if enforced(root) else MappingOverlayDriver


def _maps_ids(root: Path) -> bool:
    """Can what lies here be mounted with mapped ids?"""
    namespace = -1
    try:
        fd = mount.open_tree(mount.AT_FDCWD, root, mount.OPEN_TREE_CLONE)
        try:
            namespace = mount.user_namespace("0 100000 1\n", "0 100000 1\n")
            mount.mount_setattr(
                fd, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_IDMAP, userns_fd=namespace
            )
        finally:
            os.close(fd)
            if namespace >= 0:
                os.close(namespace)
    except OSError:
        return False  # whatever it is, a missing right too: then nobody can ask for it
    return True


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
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"storage overlay: {root}: {error.strerror}") from error
    return best_for(root)(root)


@hookimpl
def storage_rank(name: str) -> int | None:
    """Say how much it is to be preferred when nobody has chosen."""
    return 100 if name == OverlayDriver.name else None
