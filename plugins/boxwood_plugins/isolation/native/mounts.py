"""OCI ``mounts`` to operations of a launch program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from boxwood.drivers.isolation import SUBPATH, Document
from boxwood.errors import InvalidArgument
from boxwood_ext import program as p
from boxwood_ext.wire import Value

Ops = list[tuple[Value, ...]]

# mount(8) option to (bits set, bits cleared). An access time is one field of several bits.
_ATTRIBUTES = {
    "ro": (p.ATTR_RDONLY, 0),
    "rw": (0, p.ATTR_RDONLY),
    "nosuid": (p.ATTR_NOSUID, 0),
    "suid": (0, p.ATTR_NOSUID),
    "nodev": (p.ATTR_NODEV, 0),
    "dev": (0, p.ATTR_NODEV),
    "noexec": (p.ATTR_NOEXEC, 0),
    "exec": (0, p.ATTR_NOEXEC),
    "noatime": (p.ATTR_NOATIME, p.ATTR_ATIME),
    "atime": (0, p.ATTR_ATIME),
    "relatime": (p.ATTR_RELATIME, p.ATTR_ATIME),
    "norelatime": (0, p.ATTR_ATIME),
    "strictatime": (p.ATTR_STRICTATIME, p.ATTR_ATIME),
    "nostrictatime": (0, p.ATTR_ATIME),
    "nodiratime": (p.ATTR_NODIRATIME, 0),
    "diratime": (0, p.ATTR_NODIRATIME),
    "nosymfollow": (p.ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, p.ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {
    "private": p.MS_PRIVATE,
    "rprivate": p.MS_PRIVATE | p.MS_REC,
    "slave": p.MS_SLAVE,
    "rslave": p.MS_SLAVE | p.MS_REC,
    "shared": p.MS_SHARED,
    "rshared": p.MS_SHARED | p.MS_REC,
    "unbindable": p.MS_UNBINDABLE,
    "runbindable": p.MS_UNBINDABLE | p.MS_REC,
}
# Said for people or for another floor; they change nothing here.
_IGNORED = frozenset(("defaults", "z", "Z", "nocopy", "copy", "consistent", "cached", "delegated"))

# The places below /proc that a mount may cover: what lxcfs and runc's own list have. Everything
# else there is where a process is told its own posture (CVE-2019-16884, CVE-2023-28642).
_PROC_ALLOWED = frozenset(
    f"/proc/{name}"
    for name in """
        cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid
        sys/crypto/fips_enabled
    """.split()
)


# A path in another container: its mounts are in another mount namespace, out of which nothing can
# be bound. So the child goes there for a moment and takes a detached copy along.
_FOREIGN = re.compile(r"/proc/([1-9][0-9]{0,9})/root(/.+)")


def foreign_pids(mounts: Iterable[Document]) -> list[int]:
    """Return the processes whose mount namespaces a bind's source is in, each once."""
    found = (_FOREIGN.fullmatch(mount.get("source") or "") for mount in mounts)
    return list(dict.fromkeys(int(match[1]) for match in found if match))


class Options(NamedTuple):
    """The options of one mount, taken apart."""

    bind: bool
    recursive: bool
    attr_set: int
    attr_clear: int
    attr_recursive: bool
    propagation: int
    data: tuple[str, ...]
    """What only the file system understands."""
    subpath: str = ""
    """What of a bind's source is meant; see SUBPATH."""


@lru_cache(maxsize=512)
def parse_options(options: tuple[str, ...]) -> Options:
    """Take the options of an OCI mount apart; ``rro`` and its like mean submounts too."""
    bind = recursive = attr_recursive = False
    attr_set = attr_clear = propagation = 0
    data: list[str] = []
    subpath = ""
    for option in options:
        plain = option.removeprefix("r")
        if option in ("bind", "rbind"):
            bind, recursive = True, recursive or option == "rbind"
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option in _ATTRIBUTES or (plain != option and plain in _ATTRIBUTES):
            attr_recursive = attr_recursive or option not in _ATTRIBUTES
            bits, cleared = _ATTRIBUTES[option if option in _ATTRIBUTES else plain]
            attr_set = (attr_set & ~cleared) | bits
            attr_clear = (attr_clear & ~bits) | cleared
        elif option.startswith(SUBPATH):
            subpath = option.removeprefix(SUBPATH)
        elif option not in _IGNORED:
            data.append(option)
    return Options(
        bind, recursive, attr_set, attr_clear, attr_recursive, propagation, tuple(data), subpath
    )


def _inside(path: str) -> str:
    """Return the destination made plain: absolute, without ``.`` and double slashes.

    Raises:
        InvalidArgument: relative, or with ``..``: nobody writes that by accident.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidArgument(f"mount: {path}: the destination must be a plain absolute path")
    return "/" + "/".join(parts)


def covers(destination: str, place: str) -> bool:
    """Say whether a mount at ``destination`` hides what is mounted at ``place``."""
    return f"{place}/".startswith(f"{destination}/")


def check_proc(mount: Document, destination: str) -> None:
    """Refuse to cover /proc with anything but procfs, and most of what is below it.

    Raises:
        InvalidArgument: see above (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561).
    """
    if destination == "/proc":
        if mount["type"] != "proc" and mount.get("source", "").rstrip("/") != "/proc":
            raise InvalidArgument("mount: /proc: only a procfs may be mounted there")
    elif destination.startswith("/proc/") and destination not in _PROC_ALLOWED:
        raise InvalidArgument(f"mount: {destination}: cannot be mounted because it is inside /proc")


class MountCompiler:
    """Compiles the mounts of one container. ``next_slot`` counts the slots that it fills."""

    def __init__(self, first_slot: int, *, cgroup_binds: Sequence[tuple[str, str]] | None) -> None:
        """Args:
        first_slot: the first slot that no descriptor of the launch has.
        cgroup_binds: v1 with the host's cgroup namespace: (name below /sys/fs/cgroup, host
            path); ``None``: the hierarchy is mounted anew (v2).
        """
        self.next_slot = first_slot
        self._cgroup_binds = cgroup_binds
        self.foreign: dict[int, Ops] = {}
        """By process: what to take out of its mount namespace."""
        self.sources: Ops = []
        """To run before ``root``: sources that must keep their tie to the host's mounts."""
        self.ops: Ops = []
        self.late: dict[str, tuple[Value, ...]] = {}
        """By destination: to run when everything else below them has been made."""

    def add(self, mounts: Iterable[Document]) -> None:
        """Compile mounts in order.

        Raises:
            InvalidArgument: a destination or option that makes no sense.
        """
        for mount in mounts:
            destination = _inside(mount["destination"])
            check_proc(mount, destination)
            kind = mount.get("type", "")
            options = parse_options(tuple(mount.get("options", ())))
            if destination == "/":
                raise InvalidArgument("mount: /: the root cannot be mounted over")
            # what was mounted below this place can no longer be reached
            for below in [place for place in self.late if covers(destination, place)]:
                del self.late[below]
            if kind == "cgroup":
                self._cgroup(destination, options)
            elif options.bind or kind in ("bind", "none"):
                self._bind(mount["source"], destination, options)
            else:
                self._mount(kind, str(mount.get("source") or kind), destination, options)

    def _bind(self, source: str, destination: str, options: Options) -> None:
        if options.data:
            raise InvalidArgument(f"mount: {destination}: {options.data[0]}: unknown option")
        flags = p.F_RECURSIVE if options.recursive else 0
        if options.attr_recursive:
            flags |= p.F_ATTR_RECURSIVE
        propagation = options.propagation or p.MS_PRIVATE | p.MS_REC
        rest = (destination, flags, options.attr_set, options.attr_clear, propagation)
        match = _FOREIGN.fullmatch(source)
        if options.subpath:
            part = (source, options.subpath, flags & p.F_RECURSIVE)
            self.sources.append(("source_beneath", self.next_slot, *part))
            self.ops.append(("bind_fd", self.next_slot, *rest))
            self.next_slot += 1
        elif match is not None:
            taken = ("source", self.next_slot, match[2], flags & p.F_RECURSIVE)
            self.foreign.setdefault(int(match[1]), []).append(taken)
            self.ops.append(("bind_fd", self.next_slot, *rest))
            self.next_slot += 1
        elif propagation & (p.MS_SHARED | p.MS_SLAVE):
            self.sources.append(("source", self.next_slot, source, flags & p.F_RECURSIVE))
            self.ops.append(("bind_fd", self.next_slot, *rest))
            self.next_slot += 1
        else:
            self.ops.append(("bind", source, *rest))

    def _mount(self, kind: str, source: str, destination: str, options: Options) -> None:
        strict = kind in _OWN_KINDS or destination == "/dev" or destination.startswith("/dev/")
        flags = p.F_NO_SYMLINKS if strict else 0
        if kind == "mqueue":
            flags |= p.F_OPTIONAL  # a kernel may lack it; nothing but mq_open misses it
        self.ops.append(
            (
                "mount",
                kind,
                source,
                destination,
                flags,
                options.attr_set,
                options.propagation,
                options.data,
            )
        )

    def _cgroup(self, destination: str, options: Options) -> None:
        """What /sys/fs/cgroup shows: the container's own groups, not the host's tree.

        On v1 a tmpfs with each hierarchy bound below it, as every tool expects to find them.
        """
        if self._cgroup_binds is None:
            attr = options.attr_set
            self.ops.append(("mount", "cgroup2", "cgroup", destination, _STRICT, attr, 0, ()))
            return
        plain = options.attr_set & ~p.ATTR_RDONLY
        self.ops.append(("mount", "tmpfs", "tmpfs", destination, _STRICT, plain, 0, ("mode=755",)))
        private = p.MS_PRIVATE | p.MS_REC
        for name, source in self._cgroup_binds:
            place = f"{destination}/{name}"
            if source.startswith("/"):
                self.ops.append(("bind", source, place, 0, options.attr_set, 0, private))
            else:
                self.ops.append(("symlink", source, place))
        if options.attr_set & p.ATTR_RDONLY:
            self.late[destination] = ("attr", destination, 0, p.ATTR_RDONLY, 0, 0)


_STRICT = p.F_NO_SYMLINKS
# File systems that tell a process about itself or the machine: mounted only where the path has no
# symbolic link, whatever the image has made of it.
_OWN_KINDS = frozenset(("proc", "sysfs", "devpts", "mqueue"))
