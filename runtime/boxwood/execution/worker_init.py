"""The job that makes the init layer: what must stand in every container's tree.

It lies between an image and its containers, and covers links that a hostile image put where the
engine will mount something (CVE-2026-41579 class).
"""

from __future__ import annotations

import os
import stat
from typing import Any

_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "proc", "sys", "etc")
_FILES = (".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf")
_MODE = 0o755

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_init_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Descriptors: the root of the snapshot, mounted. Each component is made, never followed."""
    del arguments
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fds[0])
    try:
        for path in _DIRECTORIES:
            os.close(_directory(root, path))
        for path in _FILES:
            _file(root, path)
        _mtab(root)
    finally:
        os.close(root)
    return {}


def _is(parent: int, name: str, kind: int) -> bool:
    """Is ``name`` of that kind? What is there and is not is removed."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_IFMT(mode) == kind:
        return True
    if stat.S_ISDIR(mode):
        # A directory where a file belongs: the image wants it so, and a bind mount over it will
        # say that it cannot.
        return True
    os.unlink(name, dir_fd=parent)
    return False


def _directory(root: int, path: str) -> int:
    current = os.dup(root)
    for name in path.split("/"):
        try:
            if not _is(current, name, stat.S_IFDIR):
                os.mkdir(name, _MODE, dir_fd=current)
            below = os.open(name, _OPEN, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _parent(root: int, path: str) -> tuple[int, str]:
    head, _, name = path.rpartition("/")
    return (_directory(root, head) if head else os.dup(root)), name


def _file(root: int, path: str) -> None:
    parent, name = _parent(root, path)
    try:
        if not _is(parent, name, stat.S_IFREG):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, _MODE, dir_fd=parent))
    finally:
        os.close(parent)


def _mtab(root: int) -> None:
    parent, name = _parent(root, "etc/mtab")
    try:
        os.symlink("/proc/mounts", name, dir_fd=parent)
    except FileExistsError:
        return
    finally:
        os.close(parent)
