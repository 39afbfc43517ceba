"""Devices of a container: ``--device``, device trees, ``--device-cgroup-rule``, privileged."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from boxwood.drivers.isolation import Document
from boxwood.errors import InvalidArgument
from boxwood.model.config import DeviceMapping, HostConfig

# What Docker lets a container do with devices: deny all, then these; the isolation driver adds
# what its own default nodes need (mknod of anything, terminals, /dev/full).
_ALLOWED = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
_FUSE = (10, 229)

DEFAULT_RULES: tuple[Document, ...] = (
    {"allow": False, "access": "rwm"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in _ALLOWED
    ),
    {"allow": False, "type": "c", "major": _FUSE[0], "minor": _FUSE[1], "access": "rwm"},
)
PRIVILEGED_RULES: tuple[Document, ...] = ({"allow": True, "access": "rwm"},)

# Under the host's /dev, but not devices: mounts that each container has of its own, and what
# other container managers keep there.
_SKIPPED = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"))
# Devices of one mapping: a bound on how long a start can be held up by a huge tree.
_MAX_DEVICES = 4096

_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")


def parse_rule(text: str) -> Document:
    """Read ``c 1:3 rwm`` (``*`` for any number).

    Raises:
        InvalidArgument: in Docker's words.
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = found.groups()
    rule: Document = {"allow": True, "type": kind, "access": access}
    for name, number in (("major", major), ("minor", minor)):
        if number != "*":
            rule[name] = int(number)
    return rule


def check_mapping(mapping: DeviceMapping) -> None:
    """Refuse a mapping that makes no sense.

    Raises:
        InvalidArgument: no absolute path inside, or wrong permissions.
    """
    inside = mapping.path_in_container or mapping.path_on_host
    if not inside.startswith("/") or "/../" in f"{inside}/":
        raise InvalidArgument(f"{inside} is not an absolute path")
    access = mapping.cgroup_permissions
    if access and (set(access) - set("rwm") or len(set(access)) != len(access)):
        raise InvalidArgument(f"invalid device mode: {access}")


def gather(host_config: HostConfig) -> tuple[list[Document], list[Document]]:
    """Return OCI ``linux.devices`` and the rules of the device group.

    Raises:
        InvalidArgument: a device of the host that is not there, in Docker's words.
    """
    extra = [parse_rule(rule) for rule in host_config.device_cgroup_rules or ()]
    if host_config.privileged:
        nodes = list(_tree("/dev", "/dev"))
        present = {node["path"] for node in nodes}
        for mapping in host_config.devices or ():
            nodes += [node for node in _mapped(mapping) if node["path"] not in present]
        return nodes, list(PRIVILEGED_RULES)
    rules = list(DEFAULT_RULES)
    nodes = []
    for mapping in host_config.devices or ():
        made = list(_mapped(mapping))
        nodes += made
        rules += [_rule(node, mapping.cgroup_permissions or "rwm") for node in made]
    return nodes, rules + extra


def _rule(node: Document, access: str) -> Document:
    keys = ("type", "major", "minor")
    return {"allow": True, **{key: node[key] for key in keys}, "access": access}


def _mapped(mapping: DeviceMapping) -> Iterator[Document]:
    """Return the device, or every device below the directory, that a mapping names."""
    source = mapping.path_on_host
    target = mapping.path_in_container or source
    try:
        real = os.path.realpath(source, strict=True)
        status = os.stat(real)
    except OSError as error:
        raise _not_there(source, error.strerror or str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        found = list(_tree(real, target))
        if not found:
            raise _not_there(source, "no devices found")
        yield from found
        return
    node = _node(status, target)
    if node is None:
        raise _not_there(source, "not a device node")
    yield node


def _not_there(path: str, cause: str) -> InvalidArgument:
    return InvalidArgument(
        f'error gathering device information while adding custom device "{path}": {cause.lower()}'
    )


def _tree(top: str, inside: str) -> Iterator[Document]:
    """Every device below ``top``; symbolic links are not followed. Sorted, bounded."""
    waiting = [("", top)]
    count = 0
    while waiting:
        relative, directory = waiting.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue  # it went away while we looked: then it is no device of this container
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED:
                    waiting.append((f"{relative}/{entry.name}", entry.path))
            elif entry.name != "console" and not entry.is_symlink():
                node = _entry(entry, f"{inside}{relative}/{entry.name}")
                if node is not None and count < _MAX_DEVICES:
                    count += 1
                    yield node


def _entry(entry: os.DirEntry[str], inside: str) -> Document | None:
    try:
        return _node(entry.stat(follow_symlinks=False), inside)
    except OSError:
        return None  # unplugged meanwhile


def _node(status: os.stat_result, path: str) -> Document | None:
    mode = status.st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        return None
    return {
        "path": path,
        "type": "c" if stat.S_ISCHR(mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
