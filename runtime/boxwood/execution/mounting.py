"""Detached mounts: a file tree as a descriptor that no mount table of the host shows.

What a storage driver says (:class:`boxwood.drivers.storage.Mount`) becomes a descriptor here, by
the mount calls of fsopen(2), fsmount(2) and open_tree(2). It is an O_PATH
descriptor: what reads the directory opens ``.`` in it. Closing it unmounts, unless it has been
attached somewhere (the launch program moves it into the container's namespace).
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from boxwood.drivers.storage import IdMap, Mount
from boxwood.errors import BoxwoodError, Internal, ResourceExhausted, Unavailable, Unsupported
from boxwood_ext import mount

_STRING_LIMIT = 255
"""Bytes of a string that fsconfig(2) takes (fs/fsopen.c copies 256 with the NUL)."""
_PAGE = 4096
"""Bytes of options that mount(2) takes, with the NUL."""
_IN_PROC = "/proc/self/fd/"
_SEALED = (
    mount.MOUNT_ATTR_RDONLY
    | mount.MOUNT_ATTR_NODEV
    | mount.MOUNT_ATTR_NOSUID
    | mount.MOUNT_ATTR_NOEXEC
)


def open_root(mounts: Sequence[Mount], *, read_only: bool = False, volatile: bool = False) -> int:
    """Return a descriptor of a detached mount; the caller owns and closes it.

    Args:
        mounts: what the storage driver said; one mount.
        read_only: make it read-only whatever the driver said.
        volatile: add overlay's ``volatile`` when it is not there yet.

    Raises:
        Unsupported: more than one mount, or none.
        Unavailable: the kernel refuses it; the message says what was asked.
        ResourceExhausted: no space, descriptors or memory.
    """
    if len(mounts) != 1:
        raise Unsupported(f"mount root: {len(mounts)} mounts: exactly one is supported")
    wanted = mounts[0]
    read_only = read_only or "ro" in wanted.options
    try:
        if wanted.type == "bind":
            return _bind(wanted.source, read_only, wanted.id_map)
        if wanted.type == "overlay":
            return _overlay(wanted, read_only, volatile)
        return _file_system(wanted, wanted.options, read_only)
    except OSError as error:
        raise _translate(wanted, error) from error


def open_sealed(fd: int) -> int:
    """Return a descriptor (O_PATH) of a detached copy of the tree at a directory, to be read only.

    What is mounted below comes along. Nothing in it can be written, and no device or program in it
    opened, whoever changes the tree meanwhile; reading is cheaper for it (see ``open_regular`` of
    ``ext/c/diff``). Where the kernel gives no copy (another mount namespace, no rights) it is the
    directory itself. The caller closes it.
    """
    try:
        copy = mount.open_tree(
            fd, "", mount.AT_EMPTY_PATH | mount.AT_RECURSIVE | mount.OPEN_TREE_CLONE
        )
    except OSError:
        return os.dup(fd)
    try:
        mount.mount_setattr(copy, "", mount.AT_EMPTY_PATH | mount.AT_RECURSIVE, attr_set=_SEALED)
    except OSError:
        os.close(copy)
        return os.dup(fd)
    return copy


def _translate(wanted: Mount, error: OSError) -> BoxwoodError:
    message = f"mount root: {wanted.type} {wanted.source}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return ResourceExhausted(message)
    if error.errno in (errno.EBADF, errno.EFAULT):
        return Internal(message)
    return Unavailable(message)


def _bind(source: str, read_only: bool, id_map: Sequence[IdMap] = ()) -> int:
    fd = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE)
    try:
        if read_only:
            mount.mount_setattr(fd, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
        if id_map:
            _map_ids(fd, id_map)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _map_ids(fd: int, id_map: Sequence[IdMap]) -> None:
    """Show the files of a detached mount as others'."""
    lines = "".join(f"{part.inside} {part.outside} {part.size}\n" for part in id_map)
    namespace = mount.user_namespace(lines, lines)
    try:
        mount.mount_setattr(
            fd, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_IDMAP, userns_fd=namespace
        )
    finally:
        os.close(namespace)


def _file_system(wanted: Mount, options: Sequence[str], read_only: bool) -> int:
    context = mount.fsopen(wanted.type)
    try:
        if wanted.source:
            mount.fsconfig_string(context, "source", wanted.source)
        for option in options:
            key, equals, value = option.partition("=")
            if option in ("ro", "rw"):
                continue
            if equals:
                mount.fsconfig_string(context, key, value)
            else:
                mount.fsconfig_flag(context, key)
        mount.fsconfig_create(context)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY if read_only else 0)
    finally:
        os.close(context)


def _overlay(wanted: Mount, read_only: bool, volatile: bool) -> int:
    options = list(wanted.options)
    if volatile and "volatile" not in options and any(o.startswith("upperdir=") for o in options):
        options.append("volatile")
    with ExitStack() as stack:
        if wanted.id_map:
            options = [_mapped(option, wanted.id_map, stack) for option in options]
        short = [_shortened(option, stack) for option in options]
        try:
            return _file_system(wanted, short, read_only)
        except OSError as error:
            if error.errno != errno.EINVAL or not any(o.startswith("lowerdir+=") for o in short):
                raise
            # Kernels before 6.5 know only one string of all lower directories.
            return _overlay_joined(options, read_only, stack)


def _mapped(option: str, id_map: Sequence[IdMap], stack: ExitStack) -> str:
    """Return a lower directory's option with an id-mapped mount of it in its place."""
    key, _, path = option.partition("=")
    if key != "lowerdir+":
        return option
    fd = _bind(path, True, id_map)
    stack.callback(os.close, fd)
    return f"{key}={_IN_PROC}{fd}"


def _shortened(option: str, stack: ExitStack) -> str:
    """Return the option with its path held open and named by its descriptor if it is too long."""
    key, equals, value = option.partition("=")
    if not equals or len(os.fsencode(value)) <= _STRING_LIMIT:
        return option
    return f"{key}={_by_descriptor(value, stack)}"


def _by_descriptor(path: str, stack: ExitStack) -> str:
    if path.startswith(_IN_PROC):
        return path
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return f"{_IN_PROC}{fd}"


def _plain(path: str, stack: ExitStack) -> str:
    """Return a name without what the option string gives a meaning to.

    Escaping was tried and left: upper and lower directories unescape differently, and not in all
    kernels alike.
    """
    return _by_descriptor(path, stack) if set(path) & set(":,\\") else path


def _overlay_joined(options: Sequence[str], read_only: bool, stack: ExitStack) -> int:
    """Mount with one string of options, as every kernel takes it."""
    data = _joined(options, lambda path: _plain(path, stack))
    if len(os.fsencode(data)) < _PAGE:
        return _old_call(data, read_only, stack)
    # Named by descriptors and those by themselves: 500 of them are 2,500 bytes. The names hold in
    # this directory only, and only while nothing else runs in this thread, the daemon's one.
    data = _joined(options, lambda path: _by_descriptor(path, stack).removeprefix(_IN_PROC))
    if len(os.fsencode(data)) >= _PAGE:
        layers = sum(option.startswith("lowerdir+=") for option in options)
        raise Unavailable(
            f"mount root: {layers} layers: more than this kernel takes in one mount; "
            "Linux 6.5 and later take 500"
        )
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(_IN_PROC)
        return _old_call(data, read_only, stack)
    finally:
        os.fchdir(before)
        os.close(before)


def _joined(options: Sequence[str], name: Callable[[str], str]) -> str:
    """Return the options as one string, each path as ``name`` has it."""
    lowers: list[str] = []
    rest: list[str] = []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "lowerdir+":
            lowers.append(name(value))
        elif key in ("upperdir", "workdir"):
            rest.append(f"{key}={name(value)}")
        elif key not in ("ro", "rw"):
            rest.append(f"{key}{equals}{value}")
    return ",".join([f"lowerdir={':'.join(lowers)}", *rest])


def _old_call(data: str, read_only: bool, stack: ExitStack) -> int:
    # The string is longer than fsconfig takes: the old call needs a place, for a moment.
    place = tempfile.mkdtemp(prefix="boxwood-root-")
    stack.callback(os.rmdir, place)
    mount.mount("overlay", place, "overlay", 0, data)
    stack.callback(mount.umount2, place, mount.MNT_DETACH)
    return _bind(place, read_only)
