"""Snapshots as subvolumes of btrfs: each one is a whole tree that shares what it has not changed.

A snapshot's directory holds the subvolume ``fs``. A child is a snapshot of its parent's, whatever
its size in one transaction; what is committed is read-only for the file system too. Subvolumes that
a container makes in its own tree are no part of a layer, and go with the snapshot.

The calls are btrfs's ioctls (ioctl_btrfs in linux/btrfs.h); they run in a thread, as each may wait
for a transaction of the whole file system.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.storage import (
    MOUNTS_ONLY,
    QUOTA,
    SHARED_PARENT,
    VOLATILE,
    DirectoryDriver,
    Kind,
    Mount,
    SnapshotInfo,
    StorageDriver,
    UnpackTarget,
    Usage,
    as_boxwood_error,
    open_directory,
)
from boxwood.errors import BoxwoodError, InvalidArgument, Unavailable
from boxwood_plugins.storage._branches import file_system_of

_SUBVOL_CREATE = 0x50009418
_SNAP_CREATE = 0x50009417
_SNAP_DESTROY = 0x5000943F
_GET_FLAGS, _SET_FLAGS = 0x80089419, 0x4008941A
_TREE_SEARCH = 0xD0009411
_INO_LOOKUP = 0xD0009412
_QUOTA_CTL, _QUOTA_RESCAN_WAIT, _QGROUP_LIMIT = 0xC0109428, 0x0000942E, 0x8030942B

_ARGUMENTS = struct.Struct("=qQQ32s4040s")
"""struct btrfs_ioctl_vol_args_v2: fd, transid, flags, unused, name or id."""
_READ_ONLY = 1 << 1
_BY_ID = 1 << 4
_SEARCH_KEY = struct.Struct("=7Q4I4Q")
_SEARCH_ITEM = struct.Struct("=QQQII")
_ROOT_TREE, _ROOT_REF = 1, 156
_FIRST_INODE = 256
"""Of every subvolume; also the least id that a subvolume has."""
_QUOTA_ENABLE = 1
_MAX_EXCLUSIVE = 1 << 1
_TREE = "fs"


def _vol_args(fd: int = 0, flags: int = 0, name: bytes = b"") -> bytes:
    return _ARGUMENTS.pack(fd, 0, flags, b"", name)


def _call(fd: int, number: int, data: bytes) -> bytes:
    """Make an ioctl; returns the data as the kernel left it. Raises OSError."""
    # As a buffer that can be written to: Python copies no more than 1 KiB of any other.
    buffer = bytearray(data)
    fcntl.ioctl(fd, number, buffer)
    return bytes(buffer)


def create(directory: int, name: str) -> None:
    """Make an empty subvolume; raises OSError."""
    _call(directory, _SUBVOL_CREATE, _vol_args(name=os.fsencode(name)))


def snapshot(source: int, directory: int, name: str) -> None:
    """Make a writable snapshot of the subvolume ``source``; raises OSError."""
    _call(directory, _SNAP_CREATE, _vol_args(fd=source, name=os.fsencode(name)))


def set_read_only(subvolume: int, wanted: bool) -> None:
    """Let nobody write to a subvolume, or everybody again; raises OSError."""
    flags = int.from_bytes(_call(subvolume, _GET_FLAGS, bytes(8)), "little")
    changed = flags | _READ_ONLY if wanted else flags & ~_READ_ONLY
    if changed != flags:
        _call(subvolume, _SET_FLAGS, changed.to_bytes(8, "little"))


def id_of(fd: int) -> int:
    """Return the id of the subvolume that a file is in; raises OSError."""
    asked = struct.pack("=QQ4080s", 0, _FIRST_INODE, b"")
    return int(struct.unpack_from("=Q", _call(fd, _INO_LOOKUP, asked))[0])


def nested(fd: int, subvolume: int) -> Iterator[int]:
    """Yield the ids of the subvolumes right below one; ``fd``: any of the file system's."""
    least = 0
    while True:
        key = _SEARCH_KEY.pack(
            _ROOT_TREE, subvolume, subvolume, least, 2**64 - 1, 0, 2**64 - 1,
            _ROOT_REF, _ROOT_REF, 64, 0, 0, 0, 0, 0,
        )  # fmt: skip
        answer = _call(fd, _TREE_SEARCH, key + bytes(4096 - len(key)))
        count = _SEARCH_KEY.unpack_from(answer)[9]
        at = _SEARCH_KEY.size
        for _ in range(count):
            _, _, child, _, length = _SEARCH_ITEM.unpack_from(answer, at)
            at += _SEARCH_ITEM.size + length
            least = child + 1
            yield child
        if not count:
            return


def destroy(fd: int, subvolume: int) -> None:
    """Delete a subvolume and those in it, by their ids: no path of a container's is walked.

    Raises:
        OSError
    """
    # Innermost first; a list, for a container may nest them deeper than Python recurses.
    order = [subvolume]
    for found in order:
        order.extend(nested(fd, found))
    for found in reversed(order):
        name = found.to_bytes(8, "little")
        _call(fd, _SNAP_DESTROY, _vol_args(flags=_BY_ID, name=name))


def limit(subvolume: int, size: int) -> None:
    """Let what a subvolume has by itself take ``size`` bytes. Counting begins with the first.

    Raises:
        OSError
    """
    try:
        _limit(subvolume, size)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.EINVAL, errno.ENOENT):
            raise
        _call(subvolume, _QUOTA_CTL, struct.pack("=QQ", _QUOTA_ENABLE, 0))
        fcntl.ioctl(subvolume, _QUOTA_RESCAN_WAIT)
        _limit(subvolume, size)


def _limit(subvolume: int, size: int) -> None:
    wanted = struct.pack("=6Q", 0, _MAX_EXCLUSIVE, 0, size, 0, 0)
    _call(subvolume, _QGROUP_LIMIT, wanted)


class BtrfsDriver(DirectoryDriver):
    """See the module; the life of a snapshot is :class:`DirectoryDriver`'s."""

    name: ClassVar[str] = "btrfs"
    # Volatile costs nothing here: a bind mount never syncs.
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {MOUNTS_ONLY, VOLATILE, SHARED_PARENT, QUOTA}
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        found = file_system_of(root)
        if found != "btrfs":
            raise Unavailable(
                f"storage driver btrfs: {root}: lies on {found}, not on btrfs; put the data root "
                "on btrfs, or use --storage-driver overlay"
            )
        self._finish_commits()

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Make the subvolume; a view shows its parent's."""
        tree = directory / _TREE
        if info.kind is Kind.VIEW:
            tree.mkdir()
            return
        with open_directory(directory) as here:
            if not parents:
                await asyncio.to_thread(create, here, _TREE)
                tree.chmod(0o755)
            else:
                with open_directory(parents[0] / _TREE) as source:
                    await asyncio.to_thread(snapshot, source, here, _TREE)
        if info.options.size_limit:
            with open_directory(tree) as subvolume:
                await asyncio.to_thread(limit, subvolume, info.options.size_limit)

    def mounts_of(
        self, directory: Path, parents: Sequence[Path], info: SnapshotInfo
    ) -> list[Mount]:
        """Bind the tree."""
        if info.kind is Kind.VIEW:
            return [Mount("bind", str((parents[0] if parents else directory) / _TREE), ("ro",))]
        return [Mount("bind", str(directory / _TREE))]

    async def commit(self, key: str, name: str) -> None:
        """One rename, after which the file system too lets nobody write to it."""
        await super().commit(key, name)
        path = self._directory(self.stat(name)) / _TREE
        try:
            with open_directory(path) as subvolume:
                await asyncio.to_thread(set_read_only, subvolume, True)
        except (OSError, BoxwoodError):
            # The commit stands, and a failure must leave no trace: the flag only guards it once
            # more, and the next start tries again.
            return

    async def usage(self, key: str) -> Usage:
        """Return by how much the tree is larger than its parent's."""
        own = await super().usage(key)
        parent = self.stat(key).parent
        if parent is None:
            return own
        below = await super().usage(parent)
        return Usage(max(own.bytes - below.bytes, 0), max(own.inodes - below.inodes, 0))

    def measured(self, directory: Path) -> Path:
        """Count the tree."""
        return directory / _TREE

    def unpack_target(self, key: str) -> UnpackTarget | None:
        """Layers go straight into the subvolume; their whiteouts delete."""
        return UnpackTarget(self._directory(self.stat(key)) / _TREE, "delete")

    async def dispose(self, directory: Path) -> None:
        """Destroy the subvolume."""
        await asyncio.to_thread(self._destroy_below, directory)

    def describe(self) -> list[tuple[str, str]]:
        """Say what it lies on."""
        return [("Backing Filesystem", "btrfs"), ("Quota per container", "true")]

    def _destroy_below(self, directory: Path) -> None:
        tree = directory / _TREE
        # A view has a plain directory there, and a crash may have come before there was anything.
        if not tree.is_dir() or tree.stat().st_ino != _FIRST_INODE:
            return
        with open_directory(tree) as subvolume:
            number = id_of(subvolume)
        with open_directory(directory) as here:
            destroy(here, number)

    def _finish_commits(self) -> None:
        """A crash may have come between the rename and the flag."""
        for info in self.walk():
            if info.kind is Kind.COMMITTED:
                try:
                    with open_directory(self._directory(info) / _TREE) as subvolume:
                        set_read_only(subvolume, True)
                except OSError as error:
                    raise as_boxwood_error("commit snapshot", info.key, error) from error


@hookimpl
def storage_driver(name: str, root: Path, options: Mapping[str, str]) -> StorageDriver | None:
    """Hand the driver over when it is asked for."""
    if name != BtrfsDriver.name:
        return None
    for option in options:
        raise InvalidArgument(f"storage driver btrfs: {option}: unknown option")
    return BtrfsDriver(root)


@hookimpl
def storage_rank(name: str) -> int | None:
    """Say how much it is to be preferred when nobody has chosen."""
    return 80 if name == BtrfsDriver.name else None
