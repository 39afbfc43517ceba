"""Whether a bind can spread mounts as it is asked to: that is up to the mount its source is on."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import NamedTuple

from boxwood.errors import InvalidArgument

_SHARED = frozenset({"shared", "rshared"})
_SLAVE = frozenset({"slave", "rslave"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


class HostMount(NamedTuple):
    """A mount point of the host and its optional fields (``shared:7``, ``master:3``)."""

    point: str
    tags: tuple[str, ...]


def needs_check(propagation: str) -> bool:
    """Whether the propagation is one that a private mount cannot give."""
    return propagation in _SHARED | _SLAVE


def check(source: str, real: str, propagation: str) -> None:
    """Refuse what would silently do nothing.

    Args:
        source: as the user gave it; ``real``: the same without symbolic links.

    Raises:
        InvalidArgument: in Docker's words.
    """
    mount = find(real, Path("/proc/self/mountinfo").read_text())
    shared = any(tag.startswith("shared:") for tag in mount.tags)
    slave = any(tag.startswith("master:") for tag in mount.tags)
    where = f"path {source} is mounted on {mount.point} but it is not a"
    if propagation in _SHARED and not shared:
        raise InvalidArgument(f"{where} shared mount")
    if propagation in _SLAVE and not (shared or slave):
        raise InvalidArgument(f"{where} shared or slave mount")


def find(path: str, mountinfo: str) -> HostMount:
    """Return the mount that a path is on; of several at one place the last, which hides the
    others. ``mountinfo``: text of proc(5)."""
    found = HostMount("/", ())
    for line in mountinfo.splitlines():
        words = line.partition(" - ")[0].split(" ")
        point = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), words[4])
        if posixpath.commonpath((point, path)) == point and len(point) >= len(found.point):
            found = HostMount(point, tuple(words[6:]))
    return found
