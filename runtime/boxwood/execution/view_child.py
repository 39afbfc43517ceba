"""The process behind :mod:`boxwood.execution.view`: puts one tree together, and ends.

It works in a mount namespace of its own. The host's paths it opens may lie on file systems that
hang: it is killed then. Inside the tree it opens mount points only, beneath the tree's root.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import stat
from typing import Any

import msgspec

from boxwood_ext import mount

_CLONE_NEWNS = 0x00020000
"""linux/sched.h"""
_MS_REC, _MS_SLAVE = 16384, 1 << 19
"""linux/mount.h"""
_MOVE_EMPTY = mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH
_IN_ROOT = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
_libc = ctypes.CDLL(None, use_errno=True)


class ViewMount(msgspec.Struct, frozen=True):
    """A directory or file of the host that is seen in the tree, writable or not."""

    destination: str
    source: str
    subpath: str = ""
    writable: bool = True


class ViewRequest(msgspec.Struct, frozen=True):
    """What to put together of the descriptor that comes with it.

    ``namespace``: it is the mount namespace of a container that runs, whose mounts at these
    destinations are seen; else it is a detached mount of the container's root.
    """

    namespace: bool
    mounts: tuple[ViewMount, ...] = ()
    read_only: bool = False


def main(channel_fd: int) -> None:
    """Serve one request: answers with the root's descriptor and one that keeps it together."""
    with socket.socket(fileno=channel_fd) as channel:
        data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 1)
        if not fds:
            return
        try:
            found = _assemble(msgspec.json.decode(data, type=ViewRequest), fds[0])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", found))]
            channel.sendmsg([b"{}"], rights)
        except OSError as error:
            answer: dict[str, Any] = {"errno": error.errno or 0, "error": str(error)}
            channel.send(msgspec.json.encode(answer))


def _assemble(request: ViewRequest, given: int) -> list[int]:
    process = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    if request.namespace:
        _check(_libc.setns(given, _CLONE_NEWNS), "setns")
        root = mount.open_tree(mount.AT_FDCWD, "/", mount.OPEN_TREE_CLONE)
        trees = [found for point in request.mounts if (found := _seen(point)) is not None]
    else:
        root = given
        trees = [(point.destination, _bound(point)) for point in request.mounts]
    if not trees and not request.read_only:
        return [root]
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    # Slave, so that what the host unmounts meanwhile goes here too.
    mount.mount("", "/", "", _MS_REC | _MS_SLAVE)
    held = os.open("ns/mnt", os.O_RDONLY, dir_fd=process)
    mount.move_mount(root, "", mount.AT_FDCWD, "/", mount.MOVE_MOUNT_F_EMPTY_PATH)
    for destination, tree in sorted(trees):
        target = _target(root, destination, os.fstat(tree).st_mode)
        mount.move_mount(tree, "", target, "", _MOVE_EMPTY)
    if request.read_only:
        mount.mount_setattr(root, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
    return [root, held]


def _check(answer: int, what: str) -> None:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _seen(point: ViewMount) -> tuple[str, int] | None:
    """The mount at a destination of the namespace that we are in; None: gone meanwhile."""
    top = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        place = mount.openat2(
            top, point.destination.lstrip("/") or ".", os.O_PATH, resolve=_IN_ROOT
        )
        flags = mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH
        return point.destination, mount.open_tree(place, "", flags)
    except OSError:
        return None


def _bound(point: ViewMount) -> int:
    source = os.open(point.source, os.O_PATH)
    if point.subpath:
        source = mount.openat2(source, point.subpath, os.O_PATH, resolve=_IN_ROOT)
    flags = mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH | mount.AT_RECURSIVE
    tree = mount.open_tree(source, "", flags)
    if not point.writable:
        flags = mount.AT_EMPTY_PATH | mount.AT_RECURSIVE
        mount.mount_setattr(tree, "", flags, attr_set=mount.MOUNT_ATTR_RDONLY)
    return tree


def _target(root: int, path: str, mode: int) -> int:
    """Open a mount point; one that was never made, as the container never ran, is made."""
    parts = [part for part in path.split("/") if part]
    for at in range(1, len(parts) + 1):
        here = "/".join(parts[:at])
        try:
            os.close(mount.openat2(root, here, os.O_PATH, resolve=_IN_ROOT))
        except FileNotFoundError:
            is_file = at == len(parts) and not stat.S_ISDIR(mode)
            _make(root, "/".join(parts[: at - 1]) or ".", parts[at - 1], is_file=is_file)
    return mount.openat2(root, path.lstrip("/") or ".", os.O_PATH, resolve=_IN_ROOT)


def _make(root: int, above: str, name: str, *, is_file: bool) -> None:
    directory = mount.openat2(root, above, os.O_RDONLY | os.O_DIRECTORY, resolve=_IN_ROOT)
    try:
        if is_file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=directory))
        else:
            os.mkdir(name, 0o755, dir_fd=directory)
    finally:
        os.close(directory)
