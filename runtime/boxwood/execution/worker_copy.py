"""Jobs that copy into containers, and look at their paths as ``docker cp`` does."""

from __future__ import annotations

import os
import stat
from typing import Any

from boxwood.errors import InvalidArgument, NotFound, PermissionDenied
from boxwood.execution.worker_archive import extract_plain
from boxwood.execution.worker_diff import open_parent
from boxwood.execution.worker_trees import IN_ROOT, relative
from boxwood.execution.worker_wire import READ_ONLY
from boxwood_ext import mount

_LINKS_LIMIT = 255
"""Symbolic links on the way of one path, as Docker counts."""
_ENTRIES_LIMIT = 10_000_000
_BYTES_LIMIT = 1 << 46
"""What a client may copy in is bounded by the disk; these only end what never ends."""


def look_path(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Look at a path of a root: links above its last component are followed, inside the root.

    Descriptors: the root. Arguments: ``path``. Answers ``mode``, ``size``, ``mtime`` (ns) and
    ``target``: where a link leads in the end, be anything there or not; empty for no link.

    Raises:
        NotFound: nothing has this path.
    """
    path = arguments["path"]
    directory, name = open_parent(fds[0], path)
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    is_link = stat.S_ISLNK(status.st_mode)
    return {
        "mode": status.st_mode,
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "target": resolve(fds[0], path) if is_link else "",
    }


def resolve(root: int, path: str) -> str:
    """Return the absolute path in ``root`` to which all links of ``path`` lead.

    What is not there is taken as it is written. Nothing outside of the root is looked at.

    Raises:
        InvalidArgument: more than 255 links.
    """
    left = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        target = _link(root, "/".join((*done, part)))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _LINKS_LIMIT:
            raise InvalidArgument(f"look at path: {path}: too many symbolic links")
        if target.startswith("/"):
            done = []
        left += target.split("/")[::-1]
    return "/" + "/".join(done)


def _link(root: int, path: str) -> str | None:
    try:
        fd = mount.openat2(root, path, os.O_PATH | os.O_NOFOLLOW, resolve=IN_ROOT)
    except OSError:
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def untar_tree(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack a tar, compressed or not, into a directory of a root.

    Descriptors: the stream, the root. Arguments: ``path`` of the directory (all its links are
    followed, inside the root), ``no_overwrite_dir_non_dir`` (a directory never takes the place of
    something else, nor the reverse), ``copy_uid_gid`` (a pair: all gets this owner; None: the
    archive's). Answers ``entries`` and ``size`` (bytes of files).

    Raises:
        NotFound: there is no such path.
        InvalidArgument: it is no directory; a hostile or broken archive.
        PermissionDenied: it is read-only: :data:`~boxwood.execution.worker_wire.READ_ONLY`.
    """
    path = arguments["path"]
    try:
        target = mount.openat2(fds[1], relative(path), os.O_PATH, resolve=IN_ROOT)
    except OSError as error:
        raise NotFound(f"copy: {path}: {error.strerror}") from error
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        raise InvalidArgument("extraction point is not a directory")
    if os.fstatvfs(target).f_flag & os.ST_RDONLY:
        raise PermissionDenied(READ_ONLY)
    owner = arguments["copy_uid_gid"]
    extracted = extract_plain(
        fds[0],
        fds[1],
        {"max_bytes": _BYTES_LIMIT, "max_entries": _ENTRIES_LIMIT},
        prefix=resolve(fds[1], path).lstrip("/"),
        keep_kinds=arguments["no_overwrite_dir_non_dir"],
        chown=None if owner is None else (owner[0], owner[1]),
    )
    return {"entries": extracted["entries"], "size": extracted["bytes"]}
