"""Looks at paths of the host that a user named: they may lie on a file system that hangs."""

from __future__ import annotations

import os
from typing import Any

from boxwood.errors import NotFound
from boxwood.execution.worker_trees import relative


def probe_path(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Say whether something has this path; with ``make`` a missing directory is made, 0755.

    Descriptors: the host's root. Arguments: ``path``, ``make``. Answers ``exists``, and in
    ``error`` why it could not be made.
    """
    path = relative(arguments["path"])
    if _exists(path, fds[0]):
        return {"exists": True, "error": ""}
    if not arguments["make"]:
        return {"exists": False, "error": ""}
    try:
        _make(path, fds[0])
    except OSError as error:
        return {"exists": False, "error": error.strerror or str(error)}
    return {"exists": True, "error": ""}


def real_path(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Answers ``path`` without symbolic links. Descriptors and arguments as above.

    Raises:
        NotFound: nothing has this path.
    """
    try:
        fd = os.open(relative(arguments["path"]), os.O_PATH | os.O_CLOEXEC, dir_fd=fds[0])
    except OSError as error:
        raise NotFound(f"look at path: {arguments['path']}: {error.strerror}") from error
    return {"path": os.readlink(f"/proc/self/fd/{fd}")}


def _exists(path: str, root: int) -> bool:
    try:
        os.stat(path, dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return True


def _make(path: str, root: int) -> None:
    """Make a directory and those above it; one that another process makes meanwhile is as good."""
    above = os.path.dirname(path)
    if above and not _exists(above, root):
        _make(above, root)
    try:
        os.mkdir(path, 0o755, dir_fd=root)
    except FileExistsError:
        return
