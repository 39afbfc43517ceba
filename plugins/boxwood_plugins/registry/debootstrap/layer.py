"""From the tree of a container that has set its packages up to a layer, always the same bytes."""

from __future__ import annotations

import hashlib
import re
import tarfile
from typing import IO, TYPE_CHECKING

from boxwood.errors import DataLoss, ResourceExhausted

if TYPE_CHECKING:
    from pathlib import Path

_GONE = re.compile(
    r"""
      \.dockerenv
    | etc/(passwd|group|shadow|gshadow|subuid|subgid)-
    | etc/\.pwd\.lock
    | etc/(resolv\.conf|hostname|hosts)
    | etc/apt/apt\.conf\.d/00mmdebstrap
    | (run|tmp|var/tmp|var/log|var/cache/apt|var/lib/apt/lists)/(?!.*/$).+
    | var/cache/ldconfig/aux-cache
    | var/(cache/debconf|lib/dpkg)/.*-old
    | var/lib/dpkg/lock(-frontend)?
    | var/lib/systemd/random-seed
    | var/lib/dbus/machine-id
    | usr/sbin/policy-rc\.d
    | (.*/)?__pycache__/.*
    """,
    re.VERBOSE,
)
"""What differs from one making to the next, or is the machine's, or can be had again."""
_KEPT = ("run/lock", "var/log/apt", "var/cache/apt/archives", "var/lib/apt/lists/partial")
_EMPTIED = ("etc/machine-id",)
_PIECE = 1 << 20


class _Hashed:
    """A file that is written, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def write(tree: Path, layer: Path, epoch: int) -> tuple[str, int]:
    """Write the layer of a tree's tar; returns its digest and its size in bytes.

    Times after ``epoch`` (seconds) become it: what was made now was made by the packages.

    Raises:
        ResourceExhausted: no room. DataLoss: the tar is none.
    """
    try:
        with tarfile.open(tree, "r:") as source, layer.open("wb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as sink:  # type: ignore[call-overload]
                for member in sorted(source, key=lambda one: one.name.strip("/")):
                    _copy(source, member, sink, epoch)
    except tarfile.TarError as error:
        raise DataLoss(f"debootstrap: the tree of the container: {error}") from error
    except OSError as error:
        raise ResourceExhausted(f"debootstrap: write layer: {error.strerror}") from error
    return hashed.digest, hashed.size


def _copy(
    source: tarfile.TarFile, member: tarfile.TarInfo, sink: tarfile.TarFile, epoch: int
) -> None:
    name = member.name.removeprefix("./").strip("/")
    if not name or (_GONE.fullmatch(name) and name not in _KEPT):
        return
    member.name = name
    member.mtime = min(int(member.mtime), epoch)
    member.uname = member.gname = ""
    member.pax_headers = {
        key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
    }
    if name in _EMPTIED:
        member.size = 0
    sink.addfile(member, source.extractfile(member) if member.isreg() and member.size else None)
