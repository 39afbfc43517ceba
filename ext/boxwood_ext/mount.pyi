"""The mount system calls (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2), openat2(2)).

Every function lets the GIL go, opens descriptors close-on-exec and owned by the caller, and
raises OSError with errno and a text ``operation: object: cause``, to which the kernel's own words
on a mount context are added where it has some. Paths are str, bytes or PathLike; an empty path
with AT_EMPTY_PATH (or MOVE_MOUNT_*_EMPTY_PATH) means the descriptor itself. EINTR is retried.
"""

from os import PathLike
from typing import TypeAlias

Path: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]

AT_FDCWD: int
AT_EMPTY_PATH: int
AT_RECURSIVE: int
AT_SYMLINK_NOFOLLOW: int
OPEN_TREE_CLONE: int
MOVE_MOUNT_F_EMPTY_PATH: int
MOVE_MOUNT_T_EMPTY_PATH: int
RESOLVE_NO_XDEV: int
RESOLVE_NO_MAGICLINKS: int
RESOLVE_NO_SYMLINKS: int
RESOLVE_BENEATH: int
RESOLVE_IN_ROOT: int
MOUNT_ATTR_RDONLY: int
MOUNT_ATTR_NOSUID: int
MOUNT_ATTR_NODEV: int
MOUNT_ATTR_NOEXEC: int
MOUNT_ATTR_NOATIME: int
MOUNT_ATTR_STRICTATIME: int
MOUNT_ATTR_ATIME: int
MOUNT_ATTR_NODIRATIME: int
MOUNT_ATTR_IDMAP: int
MOUNT_ATTR_NOSYMFOLLOW: int
MS_PRIVATE: int
MS_SLAVE: int
MS_SHARED: int
MNT_DETACH: int
UMOUNT_NOFOLLOW: int

def fsopen(fstype: str) -> int:
    """Open a context for a new file system of this type."""

def fsconfig_string(fd: int, key: str, value: Path) -> None:
    """Set ``key=value`` on a context; ``source`` is such a key."""

def fsconfig_flag(fd: int, key: str) -> None:
    """Set a key without a value (``volatile``, ``ro``)."""

def fsconfig_path(fd: int, key: str, path: Path, dir_fd: int = ...) -> None:
    """Set a key to a path, resolved from ``dir_fd``."""

def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set a key to an open descriptor."""

def fsconfig_create(fd: int) -> None:
    """Make the file system that the context describes."""

def fsconfig_reconfigure(fd: int) -> None:
    """Apply what was set to an existing file system (remount)."""

def fsmount(fd: int, attributes: int = 0) -> int:
    """A detached mount (MOUNT_ATTR_*) of the file system of a context; gone when closed."""

def open_tree(dir_fd: int, path: Path, flags: int = 0) -> int:
    """Open a path (O_PATH), or with OPEN_TREE_CLONE a detached copy of the mount there.

    AT_RECURSIVE takes its submounts too. Close-on-exec is always set.
    """

def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int = 0) -> None:
    """Attach a detached mount, or move an attached one."""

def mount_setattr(
    dir_fd: int,
    path: Path,
    flags: int = 0,
    *,
    attr_set: int = 0,
    attr_clear: int = 0,
    propagation: int = 0,
    userns_fd: int = -1,
) -> None:
    """Change attributes and propagation of a mount; with AT_RECURSIVE of those below it too."""

def openat2(dir_fd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open a path under the rules of ``resolve`` (RESOLVE_*). Close-on-exec is always set."""

def mount(source: Path, target: Path, fstype: str, flags: int = 0, data: Path = "") -> None:
    """mount(2), for what the new calls cannot do yet."""

def umount2(path: Path, flags: int = 0) -> None:
    """Unmount; MNT_DETACH: at once from the tree, the rest when nobody uses it."""

def pivot_root(new_root: Path, put_old: Path) -> None:
    """pivot_root(2) of the calling process."""

def user_namespace(uid_map: str, gid_map: str) -> int:
    """Make a user namespace and return its descriptor, for id-mapped mounts.

    Maps as in user_namespaces(7): lines ``inside outside count``. No process stays in it.
    """

def quotactl_fd(fd: int, command: int, project: int, data: bytearray) -> None:
    """quotactl_fd(2) of the file system that ``fd`` is on; ``data`` must not be empty.

    ``command`` is QCMD's value; ``data`` is the structure that it reads or fills.
    """
