"""Jobs that turn trees into tar streams: what a layer changes, and whole trees."""

from __future__ import annotations

import os
import stat
from typing import Any

from boxwood.errors import InvalidArgument, NotFound
from boxwood.execution import worker_record
from boxwood.execution.worker_trees import IN_ROOT, readable, relative
from boxwood_ext import diff, mount

_LINKS_LIMIT = 40
"""Symbolic links followed at the end of a path, as the kernel does (path_resolution(7))."""


def diff_layer(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write what a snapshot changes as a layer's tar, or as a list.

    Descriptors: the sink; the snapshot's tree, or its branch; the parent's whole tree, where there
    is a parent; and a record of the copy that the snapshot began as, where there is one. Arguments:
    ``form`` (``tree``, ``overlay``, ``aufs``), ``listing``, ``looks`` (False where it is not given;
    as :func:`boxwood_ext.diff.diff` has them). Answers ``entries``, ``size`` (bytes
    written), ``skipped`` and ``cut``: see ``Diffed``.
    """
    old = readable(fds[2]) if len(fds) > 2 else -1
    written = diff.diff(
        fds[0],
        readable(fds[1]),
        old,
        form=arguments["form"],
        listing=arguments["listing"],
        looks=arguments.get("looks", False),
        copied=worker_record.read(fds[3]) if len(fds) > 3 else b"",
    )
    return _told(written)


def tar_tree(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write what lies at a path of a root, and all below it, as a tar.

    Descriptors: the sink, the root. Arguments: ``path`` (links inside it lead no further than the
    root), ``follow`` (a link at its end too), ``name`` (what its entries are called; empty: the
    top itself is no entry). Answers as :func:`diff_layer`.

    Raises:
        NotFound: nothing has this path.
    """
    path = arguments["path"]
    directory, name = open_parent(fds[1], path, follow=arguments.get("follow", False))
    try:
        written = diff.pack(fds[0], directory, name, arguments["name"])
    finally:
        os.close(directory)
    return _told(written)


def _told(written: diff.Written) -> dict[str, Any]:
    return {
        "entries": written["entries"],
        "size": written["size"],
        "skipped": written["skipped"],
        "cut": written["cut"],
    }


def open_parent(root: int, path: str, *, follow: bool = False) -> tuple[int, str]:
    """Return a descriptor of the directory that holds the last component, and that component.

    For the root itself, and for paths that end in a slash or in ``.`` or ``..``, it is the
    directory itself and ``.``. Nothing outside of the root is ever opened.

    Raises:
        NotFound: the path, or a link followed at its end, leads nowhere.
        InvalidArgument: it leads to a chain of too many links.
    """
    for _ in range(_LINKS_LIMIT):
        above, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            above, name = path, "."
        directory = _open_directory(root, above, path)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not (follow and stat.S_ISLNK(status.st_mode)):
                return directory, name
            target = os.readlink(name, dir_fd=directory)
        except OSError as error:
            os.close(directory)
            raise NotFound(f"look at path: {path}: {error.strerror}") from error
        os.close(directory)
        path = target if target.startswith("/") else f"{above}/{target}"
    raise InvalidArgument(f"look at path: {path}: more than {_LINKS_LIMIT} symbolic links")


def _open_directory(root: int, path: str, wanted: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
    try:
        return mount.openat2(root, relative(path), flags, resolve=IN_ROOT)
    except OSError as error:
        raise NotFound(f"look at path: {wanted}: {error.strerror}") from error
