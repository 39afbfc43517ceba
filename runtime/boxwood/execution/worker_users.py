"""The job that finds a user: ``--user`` against the container's own passwd and group files.

The files are a container's: opened beneath its root, regular files only, without waiting, at most
1 MiB of them (CVE-2024-9676), parsed strictly; a number that is none is an error and never root
(CVE-2024-40635, CVE-2026-30892).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Any

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.execution.worker_trees import IN_ROOT
from boxwood_ext import mount

FILE_LIMIT = 1 << 20
"""Bytes of a passwd or group file that are read; a larger one is refused."""
LINE_LIMIT = 65536
"""Lines of such a file."""
ID_LIMIT = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


class _Entry(msgspec.Struct, frozen=True):
    name: str
    number: int
    group: int = 0
    home: str = ""
    members: tuple[str, ...] = ()


def number_of(text: str) -> int | None:
    """Return an id written in digits, None for a name; raises InvalidArgument past 2^31-1."""
    if _NUMBER.fullmatch(text) is None:
        if re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
            raise InvalidArgument(f"uids and gids must be in range 0-{ID_LIMIT}")
        return None
    if int(text) > ID_LIMIT:
        raise InvalidArgument(f"uids and gids must be in range 0-{ID_LIMIT}")
    return int(text)


def _read(root: int, path: str) -> list[list[str]]:
    """Return the lines of a file, split at colons; nothing when there is no such file."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        # O_PATH first: opening a device or a pipe already does something.
        found = mount.openat2(root, path, os.O_PATH, resolve=IN_ROOT)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return []
        raise
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise InvalidArgument(f"user lookup: /{path}: not a regular file")
        fd = os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
    finally:
        os.close(found)
    with open(fd, "rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise InvalidArgument(f"user lookup: /{path}: larger than {FILE_LIMIT} bytes")
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:LINE_LIMIT]
    return [line.strip().split(":") for line in lines if line.strip() and line[0] != "#"]


def _small(text: str) -> int | None:
    found = _NUMBER.fullmatch(text)
    return int(text) if found and int(text) <= ID_LIMIT else None


def _passwd(root: int) -> list[_Entry]:
    entries = []
    for fields in _read(root, "etc/passwd"):
        if len(fields) >= 4:
            uid, gid = _small(fields[2]), _small(fields[3])
            if uid is not None and gid is not None:
                home = fields[5] if len(fields) > 5 else ""
                entries.append(_Entry(fields[0], uid, gid, home))
    return entries


def _groups(root: int) -> list[_Entry]:
    entries = []
    for fields in _read(root, "etc/group"):
        if len(fields) >= 3:
            gid = _small(fields[2])
            if gid is not None:
                members = fields[3].split(",") if len(fields) > 3 else []
                entries.append(_Entry(fields[0], gid, members=tuple(filter(None, members))))
    return entries


def _find(entries: list[_Entry], wanted: str, number: int | None) -> _Entry | None:
    for entry in entries:
        if entry.name == wanted or (number is not None and entry.number == number):
            return entry
    return None


def _group(groups: list[_Entry], wanted: str) -> int:
    number = number_of(wanted)
    entry = _find(groups, wanted, None)
    if entry is not None:
        return entry.number
    if number is None:
        raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")
    return number


def split_user(user: str) -> tuple[str, str]:
    """Return user and group of ``user[:group]``; without a user (``:group``) it is ``0``.

    Raises:
        InvalidArgument: the group is empty or no name.
    """
    name, colon, group = user.partition(":")
    if colon and (not group or ":" in group):
        raise InvalidArgument(f"invalid user: {user!r}: must be user[:group]")
    if any(character in user for character in "\0\n/"):
        raise InvalidArgument(f"invalid user: {user!r}")
    return name, group


def _user(root: int, name: str) -> _Entry:
    number = number_of(name)
    entry = _find(_passwd(root), name, number)
    if entry is not None:
        return entry
    if number is None:
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    return _Entry(name, number)


def lookup_user(arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Resolve a user as Docker does.

    Descriptors: the container's root. Arguments: ``user`` (``""``, ``name|uid[:name|gid]``),
    ``group_add`` (names or numbers). Answers ``uid``, ``gid``, ``groups`` (supplementary, from
    the group file only when no group was given, then ``group_add``), ``home`` (``/`` if unknown).
    """
    name, group = split_user(arguments["user"])
    entry = _user(fds[0], name or "0")
    wanted: list[str] = list(arguments.get("group_add") or [])
    groups = _groups(fds[0])
    gid = _group(groups, group) if group else entry.group
    extra = [] if group else [g.number for g in groups if entry.name in g.members]
    extra.extend(_group(groups, other) for other in wanted)
    supplementary = [number for number in dict.fromkeys(extra) if number != gid]
    return {
        "uid": entry.number,
        "gid": gid,
        "groups": supplementary,
        "home": entry.home or "/",
    }
