"""The jobs of the workers, by name. Runs in a worker's child; nothing here is imported elsewhere.

A job gets its arguments (a dict) and its descriptors, and returns a dict. Directories come as any
descriptor of one, O_PATH too. What it may do is in its entry of :data:`JOBS`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import msgspec

from boxwood.errors import (
    BoxwoodError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TooLarge,
    Unsupported,
)
from boxwood.execution import (
    confine,
    worker_archive,
    worker_chunks,
    worker_compress,
    worker_copy,
    worker_diff,
    worker_erofs,
    worker_host,
    worker_init,
    worker_recipe,
    worker_trees,
    worker_users,
    worker_whiteouts,
)
from boxwood_ext import diff, tar

Arguments = dict[str, Any]
Result = dict[str, Any]


class Job(msgspec.Struct, frozen=True):
    """A function and the capabilities that it keeps."""

    run: Callable[[Arguments, list[int]], Result]
    capabilities: tuple[int, ...] = ()


def _ping(arguments: Arguments, fds: list[int]) -> Result:
    del arguments, fds
    return {"pid": os.getpid()}


def _remove_tree(arguments: Arguments, fds: list[int]) -> Result:
    """Descriptors: a directory. Arguments: ``name`` in it. Answers ``removed`` (files)."""
    return {"removed": tar.remove_tree(fds[0], arguments["name"])}


_WRITE = (confine.CHOWN, confine.DAC_OVERRIDE, confine.FOWNER, confine.FSETID)
# Whole trees, with devices, file capabilities and attributes below ``trusted.``.
_ALL = (*_WRITE, confine.DAC_READ_SEARCH, confine.MKNOD, confine.SETFCAP, confine.SYS_ADMIN)
_READ = (confine.DAC_READ_SEARCH,)
# With attributes below ``trusted.``, where overlay notes what is hidden.
_READ_ALL = (*_READ, confine.SYS_ADMIN)

JOBS: dict[str, Job] = {
    "ping": Job(_ping),
    "unpack_layer": Job(worker_archive.unpack_layer, _ALL),
    "adopt_directories": Job(worker_archive.adopt_directories, _ALL),
    "split_archive": Job(worker_archive.split_archive, (confine.DAC_OVERRIDE,)),
    "assemble_layer": Job(worker_recipe.assemble_layer, _READ),
    "pack_layer": Job(worker_compress.pack_layer),
    "hash_file": Job(worker_archive.hash_file),
    "chunk_layer": Job(worker_chunks.chunk_layer),
    "match_layer": Job(worker_chunks.match_layer),
    "send_layer": Job(worker_chunks.send_layer),
    "join_layer": Job(worker_chunks.join_layer),
    "plain_layer": Job(worker_archive.plain_layer),
    "sync": Job(worker_archive.sync),
    "make_init_layer": Job(worker_init.make_init_layer, _WRITE),
    "remove_tree": Job(_remove_tree, (confine.DAC_OVERRIDE, confine.FOWNER)),
    "tree_usage": Job(worker_trees.tree_usage, _READ),
    "copy_tree": Job(worker_trees.copy_tree, _ALL),
    "convert_whiteouts": Job(worker_whiteouts.convert_whiteouts, _ALL),
    "diff_layer": Job(worker_diff.diff_layer, _READ_ALL),
    "erofs_layer": Job(worker_erofs.erofs_layer, _READ_ALL),
    "tar_tree": Job(worker_diff.tar_tree, _READ_ALL),
    "untar_tree": Job(worker_copy.untar_tree, _ALL),
    "look_path": Job(worker_copy.look_path, _READ),
    "seed_volume": Job(worker_trees.seed_volume, _ALL),
    "probe_path": Job(worker_host.probe_path, _WRITE),
    "real_path": Job(worker_host.real_path, _READ),
    "stat_path": Job(worker_trees.stat_path, _READ),
    "lookup_user": Job(worker_users.lookup_user, _READ),
}


def translate(error: Exception) -> BoxwoodError:
    """Return an error of ours for what a job raised."""
    if isinstance(error, tar.TarError):
        return _from_tar(error)
    if isinstance(error, diff.DiffError):
        return _from_diff(error)
    if isinstance(error, OSError):
        return _from_system(error)
    if isinstance(error, KeyError):
        return Internal(f"worker: no such job or argument: {error}")
    return Internal(f"worker: {type(error).__name__}: {error}")


def _from_tar(error: tar.TarError) -> BoxwoodError:
    message = f"extract: {error}"
    if error.kind == "budget":
        return TooLarge(message)
    if error.kind == "system":
        return _by_number(error.errno, message)
    return InvalidArgument(message)


def _from_diff(error: diff.DiffError) -> BoxwoodError:
    message = f"diff: {error}"
    if error.kind == "system":
        return _by_number(error.errno, message)
    return Unsupported(message) if error.kind == "unsupported" else TooLarge(message)


def _from_system(error: OSError) -> BoxwoodError:
    target = f": {error.filename}" if error.filename is not None else ""
    return _by_number(error.errno or 0, f"worker{target}: {error.strerror or error}")


def _by_number(number: int, message: str) -> BoxwoodError:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ResourceExhausted(message)
    if number == errno.ENOENT:
        return NotFound(message)
    if number in (errno.EACCES, errno.EPERM):
        return PermissionDenied(message)
    return Internal(message)
