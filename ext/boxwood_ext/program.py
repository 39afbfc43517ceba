"""The launch program: a flat list of operations that starts one process in a container.

The daemon compiles an OCI document to this form; the interpreter in C (``ext/c/launch*.c``), the
same in the shim and in :mod:`boxwood_ext.launch`, runs it. Nothing between clone and exec parses
JSON or runs Python.

Life of a program: the *parent* operations come first (they say how the process is made), then the
*child* operations run in order in the new process, the last is ``exec``. The first that fails
ends it, and is reported by its index, name, object and errno.

Terms:
    slot: the number of a descriptor that travels with the program (SCM_RIGHTS order, from 0).
        ``source`` fills further slots itself, up to ``MAX_SLOTS``.
    beneath the root: a path that is resolved with openat2 ``RESOLVE_IN_ROOT`` and
        ``RESOLVE_NO_MAGICLINKS`` from the root's descriptor; it never leaves the container's tree,
        whatever symbolic links are in it. Before ``pivot`` and after it alike.

An order that works (a program has only the operations it needs)::

    namespaces join cgroup2 uid_map gid_map                       the parent
    cgroup_tasks unshare(cgroup) propagation source root          the child, host paths visible
    mkdir mount bind bind_fd mknod symlink console|stdio setsid   beneath the root
    sysctl hostname domainname loopback mask readonly attr pivot  (bind sources: before pivot)
    rlimit oom_score_adj keyring umask personality
    cwd groups gid bounding uid capabilities env command no_new_privileges seccomp exec

Without ``no_new_privileges`` the filter must be loaded while CAP_SYS_ADMIN is still there: put
``seccomp`` before ``bounding``.

Example:
    >>> program = encode([("namespaces", CLONE_NEWPID), ("env", ["PATH=/bin"]),
    ...                   ("command", ["true"]), ("exec",)])
    >>> [op.name for op in decode(program)]
    ['namespaces', 'env', 'command', 'exec']
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from boxwood_ext.wire import (
    KINDS,
    MAX_ARGS,
    MAX_LIST,
    MAX_SLOTS,
    MAX_STRING,
    Op,
    Operation,
    ProgramError,
    Reader,
    Value,
    c_table,
    decode_item,
    encode_item,
)
from boxwood_ext.wire import operation as _op

MAGIC: Final = 0x50575842  # "BXWP", little endian
VERSION: Final = 1
MAX_SIZE: Final = 1 << 20
"""Bytes of a whole program. Environments are the only large part; execve takes 2 MiB at most."""
MAX_OPS: Final = 4096
MAX_FILTER: Final = 4096
"""Instructions of one seccomp filter (BPF_MAXINSNS)."""

CLONE_NEWTIME: Final = 0x80
CLONE_NEWNS: Final = 0x20000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# Mount attributes, linux/mount.h. The access time is one field, cleared with ATTR_ATIME.
ATTR_RDONLY: Final = 0x1
ATTR_NOSUID: Final = 0x2
ATTR_NODEV: Final = 0x4
ATTR_NOEXEC: Final = 0x8
ATTR_RELATIME: Final = 0x0
ATTR_NOATIME: Final = 0x10
ATTR_STRICTATIME: Final = 0x20
ATTR_ATIME: Final = 0x70
ATTR_NODIRATIME: Final = 0x80
ATTR_NOSYMFOLLOW: Final = 0x200000

# Propagation, as in mount(2); MS_REC may be added.
MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

# Flags of bind, bind_fd, source, mount and attr.
F_RECURSIVE: Final = 1
"""Take the submounts of the source too (rbind); for ``attr``: change them too."""
F_ATTR_RECURSIVE: Final = 2
"""Set the attributes on the submounts too (recursive read-only)."""
F_NO_SYMLINKS: Final = 4
"""The destination is a path without any symbolic link; one fails with ELOOP (/proc, /sys)."""
F_OPTIONAL: Final = 8
"""A source that is not there, or a file system the kernel does not have, is passed over."""
F_CONSOLE_BIND: Final = 1
"""``console``: bind the terminal on /dev/console."""

FLAGS: Final = {
    name: value
    for name, value in list(globals().items())
    if name.startswith(("CLONE_", "ATTR_", "MS_", "F_"))
}


_BIND = "dest:str flags:u64 attr_set:u64 attr_clear:u64 propagation:u64"

TABLE: Final[tuple[Operation, ...]] = (
    _op(
        1,
        "namespaces",
        "flags:u64",
        "Make these namespaces (CLONE_NEW*) with the process. "
        "The cgroup namespace: use unshare, after the cgroups are joined.",
        parent=True,
    ),
    _op(
        2,
        "join",
        "fd:slot flags:u64",
        "Join namespaces: a pidfd and any CLONE_NEW* of its "
        "process, or a namespace's descriptor and its flag. Runs in the child, in order; only "
        "the PID (and time) namespace is joined by the parent. With CLONE_NEWNS the root becomes "
        "that of the mount namespace.",
        parent=True,
    ),
    _op(3, "uid_map", "text:str", "Write to uid_map of the child (user namespace).", parent=True),
    _op(4, "gid_map", "text:str", "Write to gid_map of the child.", parent=True),
    _op(
        5,
        "cgroup2",
        "fd:slot",
        "Start inside this cgroup v2 directory (CLONE_INTO_CGROUP).",
        parent=True,
    ),
    _op(16, "cgroup_tasks", "fd:slot", "Write 0 to this open `tasks` (v1) file: joins at once."),
    _op(17, "unshare", "flags:u64", "unshare(2): the cgroup namespace, chiefly."),
    _op(
        55,
        "visit",
        "fd:slot",
        "Go to this mount namespace, to take sources out of it; the last visit is home, and "
        "unshare of the mount namespace follows it.",
    ),
    _op(18, "parent_death", "signal:u64", "PR_SET_PDEATHSIG: die with the shim."),
    _op(19, "setsid", "", "New session."),
    _op(
        20,
        "propagation",
        "flags:u64",
        "Propagation of the whole host tree in the new mount "
        "namespace: MS_REC|MS_SLAVE or, when a mount is to reach the host, MS_REC|MS_SHARED.",
    ),
    _op(
        21,
        "source",
        "slot:u64 path:str flags:u64",
        "Open a host path (O_PATH; cloned as a "
        "detached mount tree, F_RECURSIVE: with submounts) and keep it in an unused slot, for "
        "bind_fd. Before `root` it still is a peer of the host's mount.",
    ),
    _op(
        56,
        "source_beneath",
        "slot:u64 base:str path:str flags:u64",
        "The same for a path beneath a host directory that a container can write to: no link in it "
        "may lead out, and what was found is what is kept.",
    ),
    _op(22, "root", "fd:slot", "Attach this detached mount as the root. Needs propagation."),
    _op(
        23,
        "bind",
        "source:str " + _BIND,
        "Bind a host path (symbolic links followed) on a path "
        "beneath the root, which is made (directory or file, parents too) if missing.",
    ),
    _op(
        24,
        "bind_fd",
        "fd:slot " + _BIND,
        "The same with a descriptor: a detached mount is "
        "attached as it is, anything else is cloned.",
    ),
    _op(
        25,
        "mount",
        "fstype:str source:str dest:str flags:u64 attr:u64 propagation:u64 options:list",
        "Mount a new file system (options: `key` or `key=value`, as fsconfig "
        "takes them) beneath the root; dest is made if missing. A tmpfs without `mode=` takes "
        "the mode of the directory it covers.",
    ),
    _op(
        26,
        "attr",
        "path:str flags:u64 attr_set:u64 attr_clear:u64 propagation:u64",
        "Change the attributes of the mount at this path beneath the root (`/`: the root).",
    ),
    _op(
        27,
        "mkdir",
        "path:str mode:u64 uid:u64 gid:u64",
        "Make a directory beneath the root, "
        "parents too (0755 root); one that is there is left alone.",
    ),
    _op(
        28,
        "mknod",
        "path:str mode:u64 major:u64 minor:u64 uid:u64 gid:u64",
        "Make a device or "
        "FIFO (mode with its S_IF type) beneath the root; the same one already there is fine.",
    ),
    _op(
        29,
        "symlink",
        "target:str path:str",
        "Make a symbolic link beneath the root; whatever has the name already stays.",
    ),
    _op(
        30,
        "mask",
        "path:str",
        "Hide: a file under a verified /dev/null of the container (so "
        "after its mknod or bind), a directory under an empty read-only tmpfs. Missing: fine.",
    ),
    _op(31, "readonly", "path:str", "Make this path read-only, submounts too. Missing: fine."),
    _op(
        32,
        "console",
        "uid:u64 rows:u64 columns:u64 flags:u64",
        "Open a terminal in the "
        "container's own /dev/pts, make it 0..2 and the controlling one (so after setsid); the "
        "shim gets its other side. F_CONSOLE_BIND: bind it on /dev/console.",
    ),
    _op(33, "stdio", "uid:u64", "Make the given pipes 0..2 and this user their owner."),
    _op(34, "pivot", "", "pivot_root to the root; the host's tree is gone."),
    _op(
        35, "sysctl", "name:str value:str", "Write below sys/ of a private procfs; dots or slashes."
    ),
    _op(36, "hostname", "name:str", "sethostname(2)."),
    _op(37, "domainname", "name:str", "setdomainname(2)."),
    _op(38, "loopback", "", "Set the interface lo up."),
    _op(39, "rlimit", "resource:u64 soft:u64 hard:u64", "setrlimit(2); resource by number."),
    _op(40, "oom_score_adj", "value:i64", "Through a private procfs."),
    _op(41, "keyring", "name:str", "Join a new session keyring; a kernel without: fine."),
    _op(42, "umask", "mask:u64", "umask(2)."),
    _op(43, "personality", "persona:u64", "personality(2)."),
    _op(
        44,
        "cwd",
        "path:str create:u64 uid:u64 gid:u64",
        "Change directory, and prove that it "
        "is inside the root. create=1: make it first (0755, owned by uid:gid) if missing.",
    ),
    _op(45, "groups", "gids:bytes", "setgroups(2): an array of little-endian u32."),
    _op(46, "gid", "gid:u64", "setresgid(2)."),
    _op(
        47,
        "uid",
        "uid:u64 keep_caps:u64",
        "setresuid(2); keep_caps=1: permitted capabilities survive it (then use capabilities).",
    ),
    _op(
        48,
        "bounding",
        "mask:u64",
        "Drop every capability that is not in this mask (bit N: "
        "capability N) from the bounding set.",
    ),
    _op(
        49,
        "capabilities",
        "effective:u64 permitted:u64 inheritable:u64 ambient:u64",
        "capset(2), and the ambient set. What the process does not have is left out.",
    ),
    _op(50, "no_new_privileges", "", "PR_SET_NO_NEW_PRIVS."),
    _op(
        51,
        "seccomp",
        "filter:bytes flags:u64",
        "Load a filter: an array of struct sock_filter; "
        "flags as of seccomp(2) SECCOMP_SET_MODE_FILTER.",
    ),
    _op(52, "env", "variables:list", "The environment (`NAME=value`)."),
    _op(
        53,
        "command",
        "argv:list",
        "Look argv[0] up (in PATH of env if it has no slash) as the "
        "present user, and keep it for exec. ENOENT with a name without slash: not in PATH.",
    ),
    _op(54, "exec", "", "Close everything but 0..2 and execve(2). The last operation."),
)

BY_NAME: Final = {op.name: op for op in TABLE}
BY_CODE: Final = {op.code: op for op in TABLE}

_HEADER = struct.Struct("<IHHII")  # magic, version, reserved, operations, whole size


_encode_known = lru_cache(maxsize=512)(lambda item: encode_item(BY_NAME, item, ""))


def _encode(index: int, item: Sequence[Value]) -> bytes:
    """Encode an operation; most of a program's are the same, byte for byte, in the next one."""
    try:
        return _encode_known(item)
    except (TypeError, ProgramError):  # a list in it, or an error that has to name the index
        return encode_item(BY_NAME, item, f"operation {index}: ")


def encode(ops: Iterable[Sequence[Value]]) -> bytes:
    """Encode operations, each a tuple ``(name, value, ...)``, to the form the interpreter reads.

    Raises:
        ProgramError: unknown name, wrong number or type of values, or a bound is passed.
    """
    parts = [_encode(index, item) for index, item in enumerate(ops)]
    size = _HEADER.size + sum(map(len, parts))
    if len(parts) > MAX_OPS or size > MAX_SIZE:
        raise ProgramError(f"{len(parts)} operations, {size} bytes: too large for a program")
    return _HEADER.pack(MAGIC, VERSION, 0, len(parts), size) + b"".join(parts)


def decode(program: bytes) -> list[Op]:
    """Read a program back; as strict as the interpreter in C, whose oracle this is.

    Raises:
        ProgramError: the bytes are no program of this version.
    """
    reader = Reader(bytes(program))
    magic, version, reserved, count, size = reader.unpack(_HEADER)
    if (magic, version, reserved) != (MAGIC, VERSION, 0):
        raise ProgramError("not a launch program of this version")
    if size != len(program) or size > MAX_SIZE or count > MAX_OPS:
        raise ProgramError(f"{count} operations, {size} bytes: not what is there")
    ops = [decode_item(BY_CODE, reader) for _ in range(count)]
    if reader.position != size:
        raise ProgramError(f"byte {reader.position}: bytes after the last operation")
    return ops


_BITS = {
    "namespaces": "CLONE_",
    "join": "CLONE_",
    "unshare": "CLONE_",
    "attr_set": "ATTR_",
    "attr_clear": "ATTR_",
    "attr": "ATTR_",
    "propagation": "MS_",
}


def _bits(value: int, prefix: str) -> str:
    names = [
        name.removeprefix(prefix).lower()
        for name, bit in FLAGS.items()
        if name.startswith(prefix) and bit.bit_count() == 1 and value & bit
    ]
    known = sum(
        bit
        for name, bit in FLAGS.items()
        if name.startswith(prefix) and bit.bit_count() == 1 and value & bit
    )
    rest = [hex(value & ~known)] if value & ~known else []
    return "|".join(names + rest) or "0"


def _show(op: str, name: str, value: Value) -> str:
    if isinstance(value, bytes):
        return f"{name}=<{len(value)} bytes>"
    if isinstance(value, str):
        return f"{name}={value!r}"
    if not isinstance(value, int):
        return f"{name}={list(value)!r}"
    prefix = _BITS.get(name) or (_BITS.get(op) if name == "flags" else None)
    if prefix:
        return f"{name}={_bits(value, prefix)}"
    if name == "mode":
        return f"{name}={value:#o}"
    return (
        f"{name}={value:#x}"
        if name in ("mask", "persona") or value > 1 << 32
        else f"{name}={value}"
    )


def render(program: bytes) -> str:
    """One line for each operation, for people (``boxwood inspect --launch``).

    Raises:
        ProgramError: as :func:`decode`.
    """
    lines = []
    for index, op in enumerate(decode(program)):
        args = BY_NAME[op.name].args
        shown = [_show(op.name, arg[0], value) for arg, value in zip(args, op.values, strict=True)]
        lines.append(f"{index:4d}  {op.name}({', '.join(shown)})\n")
    return "".join(lines)


def c_header() -> str:
    """The table as a C header: what ``setup.py`` writes to ``ext/c/generated/launch_ops.h``."""
    limits = {
        "MAGIC": MAGIC,
        "VERSION": VERSION,
        "MAX_SIZE": MAX_SIZE,
        "MAX_OPS": MAX_OPS,
        "MAX_ARGS": MAX_ARGS,
        "MAX_STRING": MAX_STRING,
        "MAX_LIST": MAX_LIST,
        "MAX_SLOTS": MAX_SLOTS,
        "MAX_FILTER": MAX_FILTER,
    }
    lines = ["/* Generated from boxwood_ext/program.py; do not edit. */", "#pragma once", ""]
    lines += [f"#define BXP_{name} {value:#x}u" for name, value in (limits | FLAGS).items()]
    lines += [f"#define BXP_KIND_{name.upper()} {code}" for name, code in KINDS.items()]
    return "\n".join([*lines, "", c_table("BXP_OP", TABLE)])
