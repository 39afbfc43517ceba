"""The values of the storage contract, and what its two other parts share."""

from __future__ import annotations

import enum
import errno
import os
import re
from collections.abc import (
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from boxwood.errors import (
    BoxwoodError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
)

MOUNTS_ONLY = "mounts-only"
PARALLEL_APPLY = "parallel-apply"
VOLATILE = "volatile"
ID_MAP = "id-map"
QUOTA = "quota"
SHARED_PARENT = "shared-parent"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)

Offload: TypeAlias = Callable[[str, Mapping[str, Any], Sequence[int]], Awaitable[dict[str, Any]]]
"""``await offload(job, arguments, descriptors)`` runs a job of the engine's workers.

The descriptors stay the caller's. Jobs open to drivers: ``copy_tree`` (descriptors: source
directory, target directory, and where the copy is to be recorded a new file beside it: see
:meth:`StorageDriver.copy_record`), ``remove_tree`` (a directory; argument ``name`` below it),
``tree_usage`` (a directory; answers ``bytes`` and ``inodes``), and what :meth:`StorageDriver.apply`
and :meth:`StorageDriver.diff` use: ``unpack_layer``, ``diff_layer`` and ``sync`` (directories whose
file systems are written out; none: all).
"""

Mounter: TypeAlias = Callable[..., int]
"""``mounter(mounts, volatile=False)`` mounts what a driver said, detached, and returns an O_PATH
descriptor of it, which the caller closes. Raises Unavailable, Unsupported, ResourceExhausted."""


class IdMap(msgspec.Struct, frozen=True):
    """A range of ids of users and groups alike.

    ``size`` ids from ``inside`` on, as the layers have them on disk, are ``outside`` and following
    in the mounted tree.
    """

    inside: int
    outside: int
    size: int


class Mount(msgspec.Struct, frozen=True):
    """One mount to make: file system type, source, options as in fstab(5).

    ``bind`` as type is a bind mount of ``source``. Options of an overlay may repeat
    ``lowerdir+=``, topmost first; who mounts falls back to ``lowerdir=`` where the kernel needs
    it.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()
    id_map: tuple[IdMap, ...] = ()
    """How ids of a bind's source, or of an overlay's lower directories, are shown."""


class Kind(enum.StrEnum):
    """What a snapshot is."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


class SnapshotOptions(msgspec.Struct, frozen=True):
    """What is asked of a snapshot beyond its parent."""

    volatile: bool = False
    """What is written need not survive a crash of the machine: no sync when it is unmounted."""
    size_limit: int = 0
    """Bytes the snapshot may take beyond its parent, 0: no limit."""
    id_map: tuple[IdMap, ...] = ()
    """Whose files the layers' files are; empty: as they are on disk."""


class SnapshotInfo(msgspec.Struct, frozen=True):
    """What is known of a snapshot. ``created`` is nanoseconds since the epoch."""

    key: str
    kind: Kind
    parent: str | None = None
    labels: dict[str, str] = {}
    created: int = 0
    options: SnapshotOptions = SnapshotOptions()


class Usage(msgspec.Struct, frozen=True):
    """Bytes on disk and inodes that a snapshot takes beyond its parent."""

    bytes: int = 0
    inodes: int = 0


class UnpackTarget(msgspec.Struct, frozen=True):
    """A directory into which a layer may be unpacked without mounting anything.

    ``whiteouts`` says what becomes of a layer's whiteouts there: ``overlay`` writes them in the
    form of the kernel's overlay (``user_xattr``: its marks below ``user.overlay.``), ``aufs``
    keeps them as the files ``.wh.NAME`` and ``.wh..wh..opq`` that a layer's tar has, ``delete``
    removes what they name.
    """

    path: Path
    whiteouts: Literal["overlay", "aufs", "delete"]
    user_xattr: bool = False


class Branch(msgspec.Struct, frozen=True):
    """A directory that holds what one snapshot adds to its parent, and nothing else.

    ``form`` says how it marks what is gone: ``overlay`` by character devices 0:0 and the attribute
    ``trusted.overlay.opaque`` (``user_xattr``: ``user.overlay.opaque``), ``aufs`` by files
    ``.wh.NAME`` and ``.wh..wh..opq``.
    """

    path: Path
    form: Literal["overlay", "aufs"]
    user_xattr: bool = False


class ApplyRequest(msgspec.Struct, frozen=True):
    """How a layer's stream is to be unpacked. Digests are verified where they are given."""

    diff_id: str = ""
    digest: str = ""
    max_bytes: int = 1 << 40
    """Bytes of the tar, uncompressed."""
    max_entries: int = 2_000_000
    max_ratio: int = 0
    """Bytes out for a byte in, 0: what the compression itself can do at most."""
    max_name: int = 4095
    """Bytes of an entry's name, and of a link's target."""
    recipe: int = -1
    """A descriptor of an empty file: gets what the tar's very bytes can be made of again, beside
    the files themselves (see ``docs/layers.md``); -1: not wanted."""
    growing: int = -1
    """A pipe: the stream is a file that is still being written, read from its start, and here comes
    how much of it is there (:mod:`boxwood.model.growing`); -1: the stream ends where it ends."""


class Applied(msgspec.Struct, frozen=True):
    """What unpacking found out; sizes are bytes."""

    diff_id: str
    digest: str
    """Of the bytes as they came."""
    size: int
    """Of the files' contents."""
    stored: int
    """Of the bytes as they came."""
    tar_size: int
    """Of the tar, uncompressed."""
    entries: int
    compression: str = ""
    """``gzip``, ``zstd``, ``xz``, ``bzip2``; empty: none."""
    compressor: str = ""
    """What makes the very same compressed bytes of the tar; empty: nothing known does."""
    recipe: bool = False
    """Is what was written to :attr:`ApplyRequest.recipe` complete?"""
    lacked: bool = False
    """Does the layer build on what its parent has, beyond :attr:`implied`, and there was no parent
    to look at?"""
    implied: tuple[bytes, ...] = ()
    """Without a parent: paths of the directories that no entry names, outer ones first; what they
    look like is the parent's to say (:meth:`StorageDriver.adopt`)."""


class Diffed(msgspec.Struct, frozen=True):
    """What :meth:`StorageDriver.diff` wrote."""

    entries: int
    size: int
    """Bytes written."""
    skipped: int = 0
    """Sockets, and names that would mean something else in a layer: left out."""
    cut: int = 0
    """Files that became shorter while they were read: zeros take the place of what is missing."""


def check_key(key: str) -> str:
    """Return ``key`` when it may name a snapshot; raises InvalidArgument."""
    if _KEY.fullmatch(key) is None:
        raise InvalidArgument(f"snapshot: {key[:220]!r}: not a key")
    return key


def full_disk(error: OSError) -> bool:
    """Does this error say that space, inodes or quota ran out?"""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


def as_boxwood_error(operation: str, target: object, error: OSError) -> BoxwoodError:
    """Return the error class for a failed system call, worded ``operation: object: cause``."""
    message = f"{operation}: {target}: {error.strerror or error}"
    return ResourceExhausted(message) if full_disk(error) else Internal(message)


class open_directory:  # noqa: N801 - used as a function
    """``with open_directory(path) as fd``: a descriptor of a directory of the driver's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise as_boxwood_error("open", self._path, error) from error
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
