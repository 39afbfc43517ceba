"""An OCI runtime-spec document to the operations of a launch program.

Pure: a document and slot numbers in, operations out. The order is the one that the table of
operations asks for; where it matters for safety the function says why.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from boxwood.drivers.isolation import CAPABILITIES, Document
from boxwood.errors import InvalidArgument, Unsupported
from boxwood_ext import program as p
from boxwood_ext.wire import Value
from boxwood_plugins.isolation.native.mounts import MountCompiler, Ops
from boxwood_plugins.isolation.native.seccomp import Filter

CLONE_FLAGS = {
    "mount": p.CLONE_NEWNS,
    "pid": p.CLONE_NEWPID,
    "ipc": p.CLONE_NEWIPC,
    "uts": p.CLONE_NEWUTS,
    "network": p.CLONE_NEWNET,
    "cgroup": p.CLONE_NEWCGROUP,
    "user": p.CLONE_NEWUSER,
    "time": p.CLONE_NEWTIME,
}

_SYS_ADMIN = 1 << CAPABILITIES.index("CAP_SYS_ADMIN")
_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}

# By number, asm-generic/resource.h (x86, arm, riscv; mips and alpha differ and are not served).
_RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        """
        CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO
        RTTIME
        """.split()
    )
}
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}

# What every container finds in /dev, whoever may use it: runtime-spec, config-linux, default
# devices.
_NODES: tuple[Document, ...] = tuple(
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)
_LINK_OPS: tuple[tuple[str, str, str], ...] = (
    ("symlink", "/proc/self/fd", "/dev/fd"),
    ("symlink", "/proc/self/fd/0", "/dev/stdin"),
    ("symlink", "/proc/self/fd/1", "/dev/stdout"),
    ("symlink", "/proc/self/fd/2", "/dev/stderr"),
    ("symlink", "pts/ptmx", "/dev/ptmx"),
    # as runc: only where the kernel has it (CONFIG_PROC_KCORE)
    *([("symlink", "/proc/kcore", "/dev/core")] if os.path.exists("/proc/kcore") else []),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


# Where Docker has its init, and what `ps` in a container shows. It is the shim's own program under
# another name, bound read-only: root in the container cannot change the host's file through
# /proc/1/exe (CVE-2019-5736).
_INIT = "/sbin/docker-init"
_INIT_BIND: tuple[Value, ...] = (
    "bind",
    str(Path(p.__file__).parent / "bin" / "boxwood-shim"),
    _INIT,
    0,
    p.ATTR_RDONLY | p.ATTR_NOSUID | p.ATTR_NODEV,
    0,
    p.MS_PRIVATE | p.MS_REC,
)


class Slots(NamedTuple):
    """Which descriptor has which number."""

    root: int
    tasks: tuple[int, ...] = ()
    """Open v1 ``tasks`` files."""
    group: int | None = None
    """The v2 directory."""
    namespaces: tuple[tuple[int, int], ...] = ()
    """(slot, CLONE flag) of the namespaces to join."""
    foreign: tuple[tuple[int, int], ...] = ()
    """(pid, slot) of mount namespaces that a bind's source is in."""
    home: int | None = None
    """The daemon's own mount namespace, to come back from those."""
    total: int = 0
    """How many descriptors go with the program."""


def compile_container(
    spec: Document,
    slots: Slots,
    *,
    name: str,
    seccomp: Filter | None,
    cgroup_binds: Sequence[tuple[str, str]] | None,
    init: bool = False,
) -> Ops:
    """Return the operations that start a container.

    Args:
        name: of the session keyring.
        cgroup_binds: see :class:`MountCompiler`.
        init: put our own init before the process.

    Raises:
        InvalidArgument: the document contradicts itself or has an unknown word.
        Unsupported: it asks for what this driver does not do.
    """
    linux = spec["linux"]
    process = spec["process"]
    _refuse(spec)
    mounts = MountCompiler(slots.total, cgroup_binds=cgroup_binds)
    mounts.add(spec.get("mounts", ()))
    ops = _parents(linux, slots)
    ops += [("cgroup_tasks", slot) for slot in slots.tasks]
    if _makes(linux, "cgroup"):
        ops.append(("unshare", p.CLONE_NEWCGROUP))
    ops += _visits(mounts, slots)
    ops.append(("propagation", _propagation(linux)))
    ops += mounts.sources
    ops.append(("root", slots.root))
    ops += mounts.ops
    ops += _devices(spec)
    ops += _terminal(process, bind=True)
    ops += _names_and_parameters(spec)
    ops += mounts.late.values()
    # After every node and mount is there: a mask is a bind of the /dev/null just made.
    ops += [("mask", path) for path in linux.get("maskedPaths") or ()]
    ops += [("readonly", path) for path in linux.get("readonlyPaths") or ()]
    if init:
        ops.append(_INIT_BIND)
    if spec["root"].get("readonly"):
        # While it can be made: what Docker does when it creates the container.
        ops.append(("mkdir", process["cwd"], 0o755, 0, 0))
        ops.append(("attr", "/", 0, p.ATTR_RDONLY, 0, 0))
    ops.append(("pivot",))
    ops.append(("keyring", f"_ses.{name}"))
    ops += _process(process, seccomp, create_cwd=True, init=init)
    return ops


def _visits(mounts: MountCompiler, slots: Slots) -> Ops:
    """Return the way through other mount namespaces and back into a new one of our own."""
    ops: Ops = []
    for pid, slot in slots.foreign:
        ops += [("visit", slot), *mounts.foreign.get(pid, ())]
    if ops and slots.home is not None:
        ops += [("visit", slots.home), ("unshare", p.CLONE_NEWNS)]
    return ops


def compile_exec(
    spec: Document, process: Document, slots: Slots, *, name: str, seccomp: Filter | None
) -> Ops:
    """Return the operations that start one more process in a container.

    ``slots.namespaces`` has one entry: a pidfd of the container's first process with every flag
    to join.
    """
    _refuse({**spec, "process": process})
    ops: Ops = [("join", slot, flags) for slot, flags in slots.namespaces]
    if slots.group is not None:
        ops.append(("cgroup2", slots.group))
    ops += [("cgroup_tasks", slot) for slot in slots.tasks]
    ops += _terminal(process, bind=False)
    ops.append(("keyring", f"_ses.{name}"))
    ops += _process(process, seccomp, create_cwd=False, init=False)
    return ops


def joined_flags(spec: Document) -> int:
    """Return the namespaces of a container that are not the host's, as CLONE flags."""
    flags = 0
    for namespace in spec["linux"].get("namespaces", ()):
        flags |= _flag(namespace)
    return flags


def _refuse(spec: Document) -> None:
    """Refuse what would otherwise be passed over."""
    process = spec["process"]
    for place, key, allowed in (
        (process, "apparmorProfile", ("", "unconfined")),
        (process, "selinuxLabel", ("",)),
        (spec["linux"], "mountLabel", ("",)),
    ):
        if place.get(key, "") not in allowed:
            raise Unsupported(f"launch: {key}: {place[key]}: not served by the native driver")
    for key in ("intelRdt", "memoryPolicy", "netDevices", "timeOffsets"):
        if spec["linux"].get(key):
            raise Unsupported(f"launch: {key}: not served by the native driver")
    for key in ("scheduler", "ioPriority", "execCPUAffinity"):
        if process.get(key):
            raise Unsupported(f"launch: {key}: not served by the native driver")
    if any((spec.get("hooks") or {}).values()):
        raise Unsupported("launch: hooks: not served by the native driver")


def _flag(namespace: Document) -> int:
    flag = CLONE_FLAGS.get(namespace["type"])
    if flag is None:
        raise InvalidArgument(f"namespace: {namespace['type']}: unknown")
    return flag


def _makes(linux: Document, kind: str) -> bool:
    return any(
        namespace["type"] == kind and not namespace.get("path")
        for namespace in linux.get("namespaces", ())
    )


def _parents(linux: Document, slots: Slots) -> Ops:
    """Return what the parent does: flags, namespaces to join, the group, the ID maps."""
    flags = 0
    for namespace in linux.get("namespaces", ()):
        if not namespace.get("path"):
            flags |= _flag(namespace)
    if not flags & p.CLONE_NEWNS:
        raise Unsupported("launch: namespaces: a container needs a mount namespace of its own")
    ops: Ops = [("namespaces", flags & ~p.CLONE_NEWCGROUP)]
    ops += [("join", slot, flag) for slot, flag in slots.namespaces]
    if slots.group is not None:
        ops.append(("cgroup2", slots.group))
    for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        mappings = linux.get(key)
        if mappings and flags & p.CLONE_NEWUSER:
            ops.append((name, _id_map(mappings)))
    return ops


def _id_map(mappings: Sequence[Document]) -> str:
    """Return the text of user_namespaces(7)."""
    return "".join(
        f"{mapping['containerID']} {mapping['hostID']} {mapping['size']}\n" for mapping in mappings
    )


def _propagation(linux: Document) -> int:
    """Slave, unless a mount of the container is to be seen by the host."""
    if linux.get("rootfsPropagation") in ("shared", "rshared"):
        return p.MS_REC | p.MS_SHARED
    return p.MS_REC | p.MS_SLAVE


def _devices(spec: Document) -> Ops:
    """Return /dev, unless it is somebody else's directory that was bound there."""
    for mount in spec.get("mounts", ()):
        if mount["destination"].rstrip("/") == "/dev" and mount.get("type") != "tmpfs":
            return []
    linux = spec["linux"]
    # Whoever is root in a user namespace alone may make no device: the host's are bound instead.
    make = _bind_node if _makes(linux, "user") else _make_node
    ops = [make(node) for node in _NODES] + list(_LINK_OPS)
    made = {node["path"] for node in _NODES} | {link[2] for link in _LINK_OPS}
    for device in linux.get("devices", ()):
        # /dev/ptmx and the like are the container's own, also when the host's whole /dev is asked
        if device["path"] not in made:
            made.add(device["path"])
            ops.append(make(device))
    return ops


def _make_node(device: Document) -> tuple[Value, ...]:
    kind = _KINDS.get(device["type"])
    if kind is None:
        raise InvalidArgument(f"device: {device['path']}: unknown type {device['type']}")
    return (
        "mknod",
        device["path"],
        kind | stat.S_IMODE(device.get("fileMode", 0o666)),
        device.get("major", 0),
        device.get("minor", 0),
        device.get("uid") or 0,
        device.get("gid") or 0,
    )


def _bind_node(device: Document) -> tuple[Value, ...]:
    return ("bind", device["path"], device["path"], 0, 0, 0, p.MS_PRIVATE | p.MS_REC)


def _terminal(process: Document, *, bind: bool) -> Ops:
    """Return a session of its own, then a terminal or the three pipes for it."""
    uid = process["user"]["uid"]
    if not process.get("terminal"):
        return [("setsid",), ("stdio", uid)]
    size = process.get("consoleSize", {})
    flags = p.F_CONSOLE_BIND if bind else 0
    return [("setsid",), ("console", uid, size.get("height", 0), size.get("width", 0), flags)]


def _names_and_parameters(spec: Document) -> Ops:
    linux = spec["linux"]
    ops: Ops = []
    if spec.get("hostname"):
        ops.append(("hostname", spec["hostname"]))
    if spec.get("domainname"):
        ops.append(("domainname", spec["domainname"]))
    if _makes(linux, "network"):
        ops.append(("loopback",))
    ops += [("sysctl", name, value) for name, value in linux.get("sysctl", {}).items()]
    return ops


def mask_of(names: Sequence[str]) -> int:
    """Return the bits of capabilities; names that this driver does not know are not given."""
    bits = 0
    for name in names:
        if name in _NUMBERS:
            bits |= 1 << _NUMBERS[name]
    return bits


@lru_cache(maxsize=256)
def _groups(gids: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(gids)}I", *gids)


def _process(process: Document, seccomp: Filter | None, *, create_cwd: bool, init: bool) -> Ops:
    """Return what makes the process what it is, from limits to exec.

    The filter comes last with no_new_privileges. Without it, loading needs CAP_SYS_ADMIN, so it
    is loaded as the last thing before that capability goes: a profile then only has to allow
    capset, prctl, the look for the program and execve, not everything that stands above them.
    """
    user = process["user"]
    uid, gid = user["uid"], user["gid"]
    ops: Ops = []
    # 0 too: it is not the daemon's, which may well have another
    if process.get("oomScoreAdj") is not None:
        ops.append(("oom_score_adj", process["oomScoreAdj"]))
    ops.append(("umask", user.get("umask", 0o022)))
    persona = process.get("personality")
    if persona:
        ops.append(("personality", _PERSONALITIES[persona["domain"]]))
    ops.append(("cwd", process["cwd"], int(create_cwd), 0, 0))
    ops.append(("groups", _groups(tuple(user.get("additionalGids", ())))))
    ops.append(("gid", gid))
    # As late as the privileges for it are there: a low limit of open files is not for the launch.
    ops += [
        ("rlimit", _resource(limit["type"]), limit["soft"], limit["hard"])
        for limit in process.get("rlimits", ())
    ]
    ops += _privileges(process, uid, seccomp)
    ops.append(("env", process["env"]))
    command = tuple(process["args"])
    if not command:
        raise InvalidArgument("launch: no command specified")
    ops.append(("command", (_INIT, "--", *command) if init else command))
    if process.get("noNewPrivileges"):
        ops.append(("no_new_privileges",))
        if seccomp is not None:
            ops.append(("seccomp", seccomp.program, seccomp.flags))
    ops.append(("exec",))
    return ops


def _privileges(process: Document, uid: int, seccomp: Filter | None) -> Ops:
    """Return user and capabilities.

    Inheritable and ambient are what the document says, which is nothing for the engine's own
    (CVE-2022-24769). A user who is not root keeps none: what the kernel would do at execve, done
    before, so that nothing in between has more than the program will have.
    """
    sets = process.get("capabilities") or {}
    bounding = mask_of(sets.get("bounding", ()))
    ambient = mask_of(sets.get("ambient", ()))
    inheritable = mask_of(sets.get("inheritable", ()))
    effective = mask_of(sets.get("effective", ()))
    permitted = mask_of(sets.get("permitted", ()))
    if uid != 0:
        effective, permitted = effective & ambient, permitted & (ambient | inheritable)
    final = ("capabilities", effective, permitted, inheritable, ambient)
    ops: Ops = [("bounding", bounding), ("uid", uid, 1)]
    if seccomp is not None and not process.get("noNewPrivileges"):
        passing = permitted | _SYS_ADMIN
        ops.append(("capabilities", passing, passing, 0, 0))
        ops.append(("seccomp", seccomp.program, seccomp.flags))
    ops.append(final)
    return ops


def _resource(name: str) -> int:
    if name not in _RLIMITS:
        raise InvalidArgument(f"rlimit: {name}: unknown")
    return _RLIMITS[name]
