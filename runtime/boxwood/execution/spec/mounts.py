"""Mounts of a container: Docker's defaults, and what the container asks for over them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from boxwood.drivers.isolation import Document
from boxwood.errors import InvalidArgument
from boxwood.model.config import HostConfig, MountRequest

# Bytes: what /dev/shm holds unless said otherwise.
DEFAULT_SHM_SIZE = 64 * 1024 * 1024

# Files whose absence no process notices and whose presence tells of the host or opens a way to it.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NO = ("nosuid", "noexec", "nodev")
_TMPFS = ("noexec", "nosuid", "nodev")
# Options of a --tmpfs; the ones with a value apart. tmpfs(5) and mount(8).
_TMPFS_FLAGS = frozenset(
    """
    exec noexec suid nosuid dev nodev ro rw diratime nodiratime atime noatime relatime norelatime
    strictatime nostrictatime sync dirsync async remount bind rbind unbindable runbindable private
    rprivate shared rshared slave rslave
    """.split()
) - frozenset(("remount", "bind", "rbind"))
_TMPFS_VALUES = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))


class SpecMount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount as the OCI document has it; ``source`` is a path of the host for a bind."""

    destination: str
    type: str = "bind"
    source: str = ""
    options: tuple[str, ...] = ()


def _default(destination: str, kind: str, *options: str, source: str = "") -> SpecMount:
    return SpecMount(
        destination=destination, type=kind, source=source or kind, options=tuple(options)
    )


_PROC = _default("/proc", "proc", *_NO)
_DEV = _default("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")
_PTS = _default(
    "/dev/pts",
    "devpts",
    "nosuid",
    "noexec",
    "newinstance",
    "ptmxmode=0666",
    "mode=0620",
    "gid=5",
)
_MQUEUE = _default("/dev/mqueue", "mqueue", *_NO)
_SYS = {True: _default("/sys", "sysfs", *_NO, "ro"), False: _default("/sys", "sysfs", *_NO, "rw")}
_CGROUP = {
    True: _default("/sys/fs/cgroup", "cgroup", "ro", *_NO),
    False: _default("/sys/fs/cgroup", "cgroup", "rw", *_NO),
}


def defaults(
    host_config: HostConfig, *, shm_size: int, shm: str, writable_cgroups: bool
) -> list[SpecMount]:
    """Return the mounts that every container has.

    Args:
        shm_size: bytes, where the container does not say.
        shm: path of the host to bind on /dev/shm (another container's, or the host's own);
            empty: one of the container's own, unless its IPC mode is ``none``.
    """
    guarded = not host_config.privileged
    result = [_PROC, _DEV, _PTS, _SYS[guarded], _CGROUP[guarded and not writable_cgroups]]
    result.append(_MQUEUE)  # of the IPC namespace it is mounted in, the host's too
    if host_config.ipc_mode == "host":
        shm = shm or "/dev/shm"
    if shm:
        result.append(SpecMount(destination="/dev/shm", source=shm, options=("rbind", "rprivate")))
    elif host_config.ipc_mode != "none":
        size = host_config.shm_size or shm_size
        result.append(
            _default("/dev/shm", "tmpfs", *_NO, "mode=1777", f"size={size}", source="shm")
        )
    return result


def tmpfs(destination: str, options: str) -> SpecMount:
    """Return the mount of ``--tmpfs destination:options``.

    Raises:
        InvalidArgument: an option that a tmpfs does not have, in Docker's words.
    """
    given = [option for option in options.split(",") if option]
    for option in given:
        name, separator, _ = option.partition("=")
        if not (name in _TMPFS_VALUES if separator else option in _TMPFS_FLAGS):
            raise InvalidArgument(f'invalid tmpfs option ["{option}"]')
    return _default(destination, "tmpfs", *_merge_flags(_TMPFS, given))


def _merge_flags(base: Iterable[str], given: Iterable[str]) -> list[str]:
    """Put ``given`` over ``base``: ``exec`` takes ``noexec`` away."""
    given = list(given)
    taken = {option.removeprefix("no") for option in given}
    return [option for option in base if option.removeprefix("no") not in taken] + given


def requested_tmpfs(request: MountRequest) -> SpecMount:
    """Return the mount of ``--mount type=tmpfs``."""
    options = []
    extra = request.tmpfs_options
    if request.read_only:
        options.append("ro")
    if extra is not None:
        if extra.mode:
            options.append(f"mode={extra.mode:o}")
        if extra.size_bytes:
            options.append(f"size={extra.size_bytes}")
        options += ["=".join(pair) for pair in extra.options or ()]
    return tmpfs(request.target, ",".join(options))


def build(
    host_config: HostConfig,
    given: Iterable[SpecMount],
    *,
    shm_size: int,
    shm: str,
    writable_cgroups: bool,
) -> list[Document]:
    """Return OCI ``mounts``: defaults first, then the container's own from the outside inwards.

    A mount of the container's replaces the default at the same place; one on /dev replaces all
    that Docker would mount below it. ``given`` wins over the tmpfs entries of ``host_config`` at
    the same place.
    """
    own = {path: tmpfs(path, options) for path, options in (host_config.tmpfs or {}).items()}
    for request in host_config.mounts or ():
        if request.type == "tmpfs":
            own[request.target] = requested_tmpfs(request)
    own.update((mount.destination, mount) for mount in given)
    base = defaults(host_config, shm_size=shm_size, shm=shm, writable_cgroups=writable_cgroups)
    kept = [
        mount
        for mount in base
        if mount.destination not in own
        and not ("/dev" in own and mount.destination.startswith("/dev/"))
    ]
    ordered = sorted(own.values(), key=lambda mount: mount.destination.rstrip("/").count("/"))
    return [_document(mount) for mount in (*kept, *ordered)]


def _document(mount: SpecMount) -> Document:
    return {
        "destination": mount.destination,
        "type": mount.type,
        "source": mount.source or mount.type,
        "options": mount.options,
    }


def masked(host_config: HostConfig, extra: tuple[str, ...], *, unmask: bool) -> tuple[str, ...]:
    """Return the paths to hide: absent means the defaults, an empty list means none."""
    if host_config.masked_paths is not None:
        return host_config.masked_paths
    return () if unmask or host_config.privileged else MASKED_PATHS + extra


def readonly(host_config: HostConfig, *, unmask: bool) -> tuple[str, ...]:
    """Return the paths that may only be read; likewise."""
    if host_config.readonly_paths is not None:
        return host_config.readonly_paths
    return () if unmask or host_config.privileged else READONLY_PATHS
