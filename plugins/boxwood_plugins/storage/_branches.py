"""What drivers share that keep each snapshot's changes as a branch, a directory by itself.

A snapshot's directory holds ``fs``, the branch, and while it is active ``work`` for whoever stacks
the branches. Layers are unpacked straight into ``fs``: nothing is mounted for it, and layers of one
image do not wait for each other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from boxwood.drivers.storage import DirectoryDriver, Kind, SnapshotInfo
from boxwood.errors import Conflict, Unsupported

_MARKS = ("user.overlay.", "user.fuseoverlayfs.")
"""What overlay and fuse-overlayfs keep for themselves."""


class BranchDriver(DirectoryDriver):
    """A driver that stacks branches; a subclass says how."""

    layer_limit: ClassVar[int] = 500
    """Branches below an active one that can be stacked."""

    async def fill(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Make the branch; its root looks like its parent's, which it covers."""
        self._check_depth(parents, info)
        branch = directory / "fs"
        branch.mkdir()
        branch.chmod(0o755)
        if parents:
            above = (parents[0] / "fs").stat()
            look_like(branch, parents[0] / "fs", self.root_owner(above.st_uid, above.st_gid, info))
        if info.kind is Kind.ACTIVE:
            (directory / "work").mkdir(mode=0o700)

    def stack(self, directory: Path, parents: Sequence[Path], info: SnapshotInfo) -> None:
        """Branches know nothing of each other; but a root that no entry names is the parent's."""
        self._check_depth(parents, info)
        own, above = _looks(directory / "fs"), _looks(parents[0] / "fs")
        if own == (0, 0, 0o755, {}) and own != above:
            raise Conflict(f"{self.name}: {info.key}: its root may have to look as its parent's")

    def _check_depth(self, parents: Sequence[Path], info: SnapshotInfo) -> None:
        if len(parents) > self.layer_limit:
            raise Unsupported(
                f"{self.name}: {info.key}: {len(parents)} layers, at most {self.layer_limit}"
            )

    def root_owner(self, uid: int, gid: int, info: SnapshotInfo) -> tuple[int, int]:
        """Return whose a branch's root has to be on disk, when its parent's is this one's."""
        del info
        return uid, gid

    def measured(self, directory: Path) -> Path:
        """Count the branch alone."""
        return directory / "fs"


def _looks(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), _attributes(path)


def _attributes(path: Path) -> dict[str, bytes]:
    """Return the attributes of a tree's root that a layer can bring; none where there are none."""
    try:
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    return {name: os.getxattr(path, name) for name in names if not name.startswith(_MARKS)}


def look_like(path: Path, model: Path, owner: tuple[int, int] | None = None) -> None:
    """Give a tree's root what another's has: owner, mode, attributes and time; raises OSError.

    ``owner``: to be used instead of the model's.
    """
    found = model.stat()
    os.chown(path, *(owner or (found.st_uid, found.st_gid)))
    path.chmod(stat.S_IMODE(found.st_mode))
    wanted, there = _attributes(model), _attributes(path)
    for name in there.keys() - wanted.keys():
        os.removexattr(path, name)
    for name, value in wanted.items():
        os.setxattr(path, name, value)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def in_user_namespace() -> bool:
    """Are ids mapped here, so that ``trusted.*`` attributes are out of reach?"""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def file_system_of(path: Path) -> str:
    """Return the type of the file system that ``path`` lies on, ``unknown`` if nobody says."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        # By the mount, not by the device: a subvolume of btrfs has one of its own.
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    wanted = info.partition("mnt_id:")[2].split()[0]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[0] == wanted:
            return fields[fields.index("-") + 1]
    return "unknown"
