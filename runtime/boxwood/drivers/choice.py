"""Which storage driver an engine uses when nobody has said so.

The one whose snapshots the data root holds already; else the first that works here, tried in the
order in which the drivers themselves rank (the hook ``storage_rank``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from boxwood.drivers import manager
from boxwood.drivers.storage import StorageDriver
from boxwood.errors import Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

_PASSING = frozenset({"new", "trash"})
"""Folders of :class:`boxwood.drivers.storage.DirectoryDriver` that hold nothing to be kept."""


class Choice(NamedTuple):
    """A driver, and why it is that one."""

    name: str
    driver: StorageDriver
    reason: str


def choose(folder: Path, wanted: str, options: Mapping[str, str]) -> Choice:
    """Return the driver ``wanted``, or, when that is empty, the one that fits.

    Args:
        folder: where each driver has a folder of its name.
        wanted: the name that was configured.
        options: of the driver.

    Raises:
        NotFound: there is no driver of that name; says which there are.
        Conflict: the folder holds snapshots of several drivers, and nobody said which to use.
        Unavailable, InvalidArgument, PluginError: what the driver says.
    """
    if wanted:
        return Choice(wanted, _make(folder, wanted, options), "as configured")
    used = [info.name for info in manager.available("storage") if _is_used(folder / info.name)]
    if len(used) > 1:
        raise Conflict(
            f"storage driver: {folder}: holds the snapshots of several drivers "
            f"({', '.join(used)}); say which to use with --storage-driver NAME"
        )
    if used:
        return Choice(used[0], _make(folder, used[0], options), "the data root holds its snapshots")
    return _first_that_works(folder, options)


def _first_that_works(folder: Path, options: Mapping[str, str]) -> Choice:
    refused = []
    for name in manager.ranked("storage"):
        was_there = (folder / name).exists()
        try:
            driver = _make(folder, name, options)
        except Unavailable as error:
            refused.append(f"{name}: {error}")
            log.info("storage driver %s: not chosen: %s", name, error)
            if not was_there:
                _remove_folders(folder / name)
            continue
        reason = "the best that works here"
        if refused:
            reason += f" (not {', '.join(entry.partition(':')[0] for entry in refused)})"
        return Choice(name, driver, reason)
    raise Unavailable(f"storage driver: none works here: {'; '.join(refused)}")


def _make(folder: Path, name: str, options: Mapping[str, str]) -> StorageDriver:
    try:
        driver: StorageDriver = manager.select(
            "storage", name, root=folder / name, options=dict(options)
        )
    except NotFound as error:
        installed = ", ".join(info.name for info in manager.available("storage"))
        raise NotFound(
            f"storage driver: {name}: not installed; there are {installed or 'none'}"
        ) from error
    return driver


def _is_used(root: Path) -> bool:
    """Does a driver keep anything here? One that was only tried has left empty folders."""
    if not root.is_dir():
        return False
    kept = [path for path in root.iterdir() if path.name not in _PASSING]
    return any(not path.is_dir() or os.listdir(path) for path in kept)


def _remove_folders(root: Path) -> None:
    """Remove the empty folders that a driver made before it found that it cannot work here."""
    for at, _, _ in os.walk(root, topdown=False):
        try:
            os.rmdir(at)
        except OSError as error:
            log.info("storage driver: %s: left as it is: %s", at, error.strerror)
            return
