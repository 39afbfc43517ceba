"""Jobs on file trees: copying, measuring, looking."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Any

from boxwood.errors import InvalidArgument, NotFound
from boxwood.execution import worker_record
from boxwood_ext import mount

_FICLONE = 0x40049409
"""Share a file's blocks (ioctl_ficlone(2))."""
_CHUNK = 64 << 20
"""Bytes of one copy_file_range(2)."""
_SMALL = 128 << 10
"""Bytes of a file without holes that is read and written at once: two system calls for six."""
DEPTH_LIMIT = 2100
"""Levels of directories: more than a path of PATH_MAX has; a copy holds two descriptors of each."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRAIGHT = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS
_PIECE = 15
"""Components that one system call resolves at once: of 255 bytes they are less than PATH_MAX."""
IN_ROOT = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS


def readable(fd: int) -> int:
    """Return a descriptor that can list the directory ``fd``, which may be O_PATH."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)


def relative(path: str) -> str:
    """Return ``path`` as openat2 wants it beneath a root: without a slash in front."""
    return path.lstrip("/") or "."


class _Level:
    """A directory that is being walked, and in a copy the one that is being filled."""

    __slots__ = ("names", "path", "source", "target")

    def __init__(self, source: int, target: int, path: str) -> None:
        """Take both descriptors over, errors or not; ``target`` is -1 where nothing is copied."""
        self.source, self.target, self.path = source, target, path
        try:
            self.names = iter(os.listdir(source))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.source)
        if self.target >= 0:
            os.close(self.target)


def _check_depth(levels: list[_Level], what: str) -> None:
    if len(levels) > DEPTH_LIMIT:
        raise InvalidArgument(f"{what}: {levels[-1].path[:200]}: over {DEPTH_LIMIT} levels")


class _Copier:
    """Copies a tree: types, owners, modes, times, attributes, hard links, holes.

    Without recursion, and each entry by its directory's descriptor: a path may be longer than any
    system call takes.
    """

    def __init__(self, target: int) -> None:
        self._root = target
        self._linked: dict[tuple[int, int], str] = {}
        self._clones = True
        self.entries = 0

    def run(self, source: int) -> None:
        """Copy what is in ``source``, then the directory's own attributes; keeps no descriptor."""
        levels = [_Level(os.dup(source), os.dup(self._root), "")]
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    _copy_directory(level.source, level.target)
                    levels.pop().close()
                elif (below := self._entry(level, name)) is not None:
                    levels.append(below)
                    _check_depth(levels, "copy")
        finally:
            for level in levels:
                level.close()

    def _entry(self, level: _Level, name: str) -> _Level | None:
        """Copy one entry; of a directory, make it and return it."""
        source, target, path = level.source, level.target, f"{level.path}/{name}"
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        self.entries += 1
        if stat.S_ISDIR(status.st_mode):
            return _subdirectory(source, target, name, path)
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, target, name)
                return None
        if stat.S_ISREG(status.st_mode):
            self._file(source, target, name, status)
        else:
            _copy_node(source, target, name, status)
        return None

    def _file(self, source: int, target: int, name: str, status: os.stat_result) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        old = os.open(name, flags, dir_fd=source)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = os.open(name, flags, stat.S_IMODE(status.st_mode) & 0o777, dir_fd=target)
            try:
                self._content(old, new, status)
                _give(new, status)
                _copy_attributes(old, new)
                os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(new)
        finally:
            os.close(old)

    def _content(self, old: int, new: int, status: os.stat_result) -> None:
        """Copy a file's bytes; a file system that shares no blocks is asked only once."""
        if self._clones:
            self._clones = copy_content(old, new, status.st_size)
        elif 0 < status.st_size <= _SMALL and status.st_blocks * 512 >= status.st_size:
            data = os.read(old, status.st_size)
            while data:
                data = data[os.write(new, data) :]
        elif status.st_size:
            _copy_parts(old, new, status.st_size)

    def _link(self, first: str, target: int, name: str) -> None:
        folder, _, old = first.rpartition("/")
        above = _open_beneath(self._root, folder)
        try:
            os.link(old, name, src_dir_fd=above, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(above)


def _subdirectory(source: int, target: int, name: str, path: str) -> _Level:
    os.mkdir(name, 0o700, dir_fd=target)
    below = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        fresh = os.open(name, _DIRECTORY, dir_fd=target)
    except OSError:
        os.close(below)
        raise
    return _Level(below, fresh, path)


def _open_beneath(root: int, path: str) -> int:
    """Open a directory of any depth beneath ``root``, no link on the way."""
    fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    parts = [part for part in path.split("/") if part]
    for at in range(0, len(parts), _PIECE):
        piece = "/".join(parts[at : at + _PIECE])
        try:
            below = mount.openat2(fd, piece, os.O_PATH | os.O_DIRECTORY, resolve=_STRAIGHT)
        finally:
            os.close(fd)
        fd = below
    return fd


def _give(fd: int, wanted: os.stat_result) -> None:
    """Give what has just been made owner and mode; most of it has one of them already."""
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(fd, wanted.st_uid, wanted.st_gid)  # which may clear bits of the mode
    elif made.st_mode == wanted.st_mode:
        return
    os.fchmod(fd, stat.S_IMODE(wanted.st_mode))


def _copy_directory(source: int, target: int) -> None:
    status = os.fstat(source)
    _give(target, status)
    _copy_attributes(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_content(old: int, new: int, size: int) -> bool:
    """Copy a file's bytes: shared blocks where the file system can, holes left as holes.

    Returns False when it is of no use to ask these two file systems for shared blocks again.
    """
    cause = 0
    try:
        fcntl.ioctl(new, _FICLONE, old)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            raise
        cause = error.errno
        _copy_parts(old, new, size)
    return cause in (0, errno.EINVAL)


def _copy_parts(old: int, new: int, size: int) -> None:
    os.ftruncate(new, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
            at = os.lseek(old, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        _copy_range(old, new, start, at)


def _copy_range(old: int, new: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(old, new, min(end - start, _CHUNK), start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            data = os.pread(old, min(end - start, 1 << 20), start)
            done = os.pwrite(new, data, start)
        if done == 0:  # it became shorter meanwhile
            return
        start += done


def _copy_node(source: int, target: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif stat.S_ISSOCK(status.st_mode):
        return  # nobody listens on the copy of a socket
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    old, new = f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}"
    for key in _attributes(os.listxattr, old):
        value = os.getxattr(old, key, follow_symlinks=False)
        os.setxattr(new, key, value, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _attributes(listing: Any, path: str) -> list[str]:
    try:
        names: list[str] = listing(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            return []
        raise
    return [name for name in names if name != "security.selinux"]


def _copy_attributes(old: int, new: int) -> None:
    try:
        names = os.listxattr(old)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    for name in names:
        if name == "security.selinux":
            continue
        try:
            os.setxattr(new, name, os.getxattr(old, name))
        except OSError as error:
            # A volume's file system may hold none; a snapshot's parent lies on the same one.
            if error.errno != errno.EOPNOTSUPP:
                raise


def copy_tree(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Copy a tree.

    Descriptors: source directory, empty target directory; and, where the copy is to be recorded
    for :func:`~boxwood.execution.worker_diff.diff_layer`, a new file. Answers ``entries``.
    """
    del arguments
    source, target = readable(fds[0]), readable(fds[1])
    copier = _Copier(target)
    copier.run(source)
    for record in fds[2:]:
        worker_record.write(record, target, source)
    return {"entries": copier.entries}


def seed_volume(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Fill an empty volume from a directory of an image.

    Descriptors: the container's root, the volume. Arguments: ``path`` in the root. Answers
    ``seeded``: false when the volume holds something already or the image has no such directory.
    """
    target = readable(fds[1])
    if os.listdir(target):
        return {"seeded": False}
    try:
        source = mount.openat2(
            fds[0], relative(arguments["path"]), os.O_RDONLY | os.O_DIRECTORY, resolve=IN_ROOT
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return {"seeded": False}
        raise
    _Copier(target).run(source)
    return {"seeded": True}


def stat_path(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Look at ``path`` beneath a root, following links inside it (not the last with ``link``)."""
    flags = os.O_PATH | (os.O_NOFOLLOW if arguments.get("link") else 0)
    try:
        fd = mount.openat2(fds[0], relative(arguments["path"]), flags, resolve=IN_ROOT)
    except FileNotFoundError as error:
        raise NotFound(f"stat: {arguments['path']}: {error.strerror}") from error
    status = os.fstat(fd)
    return {
        "mode": status.st_mode,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "link": os.readlink("", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else "",
    }


def tree_usage(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Answers ``bytes`` (sizes of files, each inode once, as Docker counts) and ``inodes``."""
    del arguments
    seen: set[tuple[int, int]] = set()
    total = inodes = 0
    for status in _walk(readable(fds[0])):
        if stat.S_ISDIR(status.st_mode):
            inodes += 1
            continue
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            if key in seen:
                continue
            seen.add(key)
        inodes += 1
        total += status.st_size
    return {"bytes": total, "inodes": inodes}


def _walk(root: int) -> Iterator[os.stat_result]:
    """Yield what is known of each entry below; takes the descriptor. What vanishes is left out."""
    levels = [_Level(root, -1, "")]
    try:
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is None:
                levels.pop().close()
                continue
            try:
                status = os.stat(name, dir_fd=level.source, follow_symlinks=False)
                yield status
                if stat.S_ISDIR(status.st_mode):
                    below = os.open(name, _DIRECTORY, dir_fd=level.source)
                    levels.append(_Level(below, -1, f"{level.path}/{name}"))
                    _check_depth(levels, "measure")
            except (FileNotFoundError, NotADirectoryError):
                continue
    finally:
        for level in levels:
            level.close()
