"""Limits of directories on xfs: project quotas (xfs_quota(8), quotactl_fd(2)).

Everything made in a directory of a project is of that project, and what a project's files take
together is limited. The file system has to be mounted with the option ``prjquota``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from boxwood.drivers.storage import open_directory
from boxwood_ext import mount

FIRST_PROJECT = 0x42570000
"""Where our project ids begin: far from what people number by hand in /etc/projid."""

_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
"""FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR of linux/fs.h, with a struct fsxattr."""
_ATTRIBUTES = struct.Struct("=IIIII8s")
_INHERIT = 0x200
"""FS_XFLAG_PROJINHERIT."""

_PROJECT_TYPE = 2
_SET_LIMIT = 0x5804 << 8 | _PROJECT_TYPE
_GET_STATE = 0x5808 << 8 | _PROJECT_TYPE
"""QCMD(Q_XSETQLIM, PRJQUOTA) and QCMD(Q_XGETQSTATV, PRJQUOTA) of linux/dqblk_xfs.h."""
_ENFORCED = 0x20
"""FS_QUOTA_PDQ_ENFD of struct fs_quota_statv."""
_LIMIT = struct.Struct("=bbHI6QiiHHbbbb3QiHh8s")
"""struct fs_disk_quota."""
_BLOCK = 512
"""Bytes of the blocks that it counts in."""


def enforced(path: Path) -> bool:
    """Are project quotas in force on the file system that ``path`` lies on?"""
    state = bytearray(256)
    state[0] = 1  # FS_QSTATV_VERSION1
    with open_directory(path) as fd:
        try:
            mount.quotactl_fd(fd, _GET_STATE, 0, state)
        except OSError as error:
            # No quotas in the kernel or on the file system, a call too new, or not ours to ask.
            if error.errno in (
                *(errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.EOPNOTSUPP),
                *(errno.ENODEV, errno.ENOTBLK, errno.ESRCH, errno.EACCES),
            ):
                return False
            raise
    flags = int(struct.unpack_from("=H", state, 2)[0])
    return bool(flags & _ENFORCED)


def project_of(path: Path) -> int:
    """Return the project that a directory is of, 0: none."""
    with open_directory(path) as fd:
        return int(_ATTRIBUTES.unpack(_attributes(fd))[3])


def join(path: Path, project: int) -> None:
    """Make an empty directory one of the project, and all that will be made in it."""
    with open_directory(path) as fd:
        flags, size, extents, _, hint, padding = _ATTRIBUTES.unpack(_attributes(fd))
        wanted = _ATTRIBUTES.pack(flags | _INHERIT, size, extents, project, hint, padding)
        fcntl.ioctl(fd, _SET_ATTRIBUTES, wanted)


def limit(path: Path, project: int, size: int) -> None:
    """Let a project's files take ``size`` bytes on the file system of ``path``; 0: any."""
    blocks = -(-size // _BLOCK)
    hard_and_soft = 1 << 3 | 1 << 2
    data = _LIMIT.pack(
        1, 2, hard_and_soft, project, blocks, blocks, 0, 0, 0, 0, 0, 0, 0, 0, *bytes(4),
        0, 0, 0, 0, 0, 0, b"",
    )  # fmt: skip
    with open_directory(path) as fd:
        mount.quotactl_fd(fd, _SET_LIMIT, project, bytearray(data))


def _attributes(fd: int) -> bytes:
    return fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))


class Projects:
    """The projects of a driver's snapshots: who has which, and which is next."""

    def __init__(self, root: Path, folders: list[Path]) -> None:
        """``folders``: those whose entries hold ``fs``, a branch that may be of a project."""
        self._root = root
        self._last = FIRST_PROJECT
        for folder in folders:
            for entry in os.scandir(folder):
                branch = Path(entry.path, "fs")
                if branch.is_dir():
                    self._last = max(self._last, project_of(branch))

    def begin(self, size: int, *directories: Path) -> None:
        """Limit what these new directories will hold together."""
        self._last += 1
        for directory in directories:
            join(directory, self._last)
        limit(self._root, self._last, size)

    @staticmethod
    def of(branch: Path) -> int:
        """Return a branch's project, 0: none of ours."""
        project = project_of(branch)
        return project if project >= FIRST_PROJECT else 0

    def end(self, project: int) -> None:
        """Limit a project no longer; 0: none."""
        if project:
            limit(self._root, project, 0)
