"""OCI ``linux.seccomp`` to a filter: compiled once, then found by its content.

What libseccomp gives is preceded by a few instructions of our own, for two things it cannot do:

- calls that are newer than the library are decided by their number (from 424 on a call has one
  number on every architecture, so a name is enough);
- a call that is newer than every call the profile names answers ENOSYS, where the profile would
  refuse it: programs then fall back as on an older kernel, which EPERM keeps them from.

A filter takes 8 to 12 ms to compile and 0.2 ms to load, so compiled ones are kept in memory and
in a directory of the daemon's own, under the digest of what they were made from.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import msgspec

from boxwood.drivers.isolation import Document
from boxwood.errors import InvalidArgument, Unsupported
from boxwood_plugins.isolation.native import libseccomp

# A part of each key: higher when the same profile gives another filter than before.
_GENERATION = 1
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_KEPT = 64

_RET = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_LENIENT = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_EPERM, _ENOSYS = 1, 38

# linux/seccomp.h
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # one thread only is there when the filter is loaded
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
# As runc: a filter alone does not slow the process down with the speculation barrier.
_DEFAULT_FLAGS = 4

# Calls that some libseccomp in use cannot name. From 424 on numbers are the same everywhere.
_NEWER = {
    name: number
    for number, name in enumerate(
        """
        pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount
        fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
        process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset
        landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv
        set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait
        futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
        setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr
        """.split(),
        424,
    )
}
# linux/audit.h
_AUDIT_X86_64 = 0xC000_003E
_X32_BIT = 0x4000_0000
# Added beside the entry points of x86_64 alone, in gaps of its old table.
_NEWER_ONLY = {_AUDIT_X86_64: {"uretprobe": 335, "uprobe": 336}}
_NOT_X32 = ("map_shadow_stack",)


class Filter(NamedTuple):
    """What ``seccomp(2)`` is given."""

    program: bytes
    flags: int


def _action(name: str, errno: int | None) -> int:
    """Return the action word of seccomp(2).

    Raises:
        InvalidArgument: unknown, or a number that does not fit.
        Unsupported: needs a listener.
    """
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported("seccomp: SCMP_ACT_NOTIFY: needs a listener, which is not served")
    if name not in _RET:
        raise InvalidArgument(f"seccomp: {name}: unknown action")
    if name not in _WITH_DATA:
        return _RET[name]
    data = _EPERM if errno is None else errno
    if not 0 <= data <= 0xFFFF:
        raise InvalidArgument(f"seccomp: errno {data}: out of range")
    return _RET[name] | data


def _rules(profile: Document) -> list[libseccomp.Rule]:
    """Return one rule for each call. Where an argument is compared twice each comparison is a
    rule of its own, as runc has it (the library compares an argument once in a rule)."""
    rules: list[libseccomp.Rule] = []
    for entry in profile.get("syscalls", ()):
        action = _action(entry["action"], entry.get("errnoRet"))
        arguments = [_argument(arg) for arg in entry.get("args") or ()]
        apart = len({argument[0] for argument in arguments}) < len(arguments)
        for name in entry["names"]:
            if apart:
                rules += [(name, action, [argument]) for argument in arguments]
            else:
                rules.append((name, action, arguments))
    return rules


def _argument(arg: Document) -> tuple[int, int, int, int]:
    op = libseccomp.COMPARE.get(arg["op"])
    if op is None or not 0 <= arg["index"] <= 5:
        raise InvalidArgument(f"seccomp: argument {arg['index']} {arg['op']}: unknown comparison")
    mask = (1 << 64) - 1
    return arg["index"], op, arg.get("value", 0) & mask, arg.get("valueTwo", 0) & mask


def compile_profile(profile: Document) -> Filter:
    """Compile OCI ``linux.seccomp``.

    Raises:
        InvalidArgument: the profile, or it is too large for the kernel.
        Unavailable: libseccomp is not installed.
    """
    library = libseccomp.library()
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = _rules(profile)
    tokens = list(profile.get("architectures") or ())
    numbers = [library.architecture(token) for token in tokens] or [library.native()]
    body = library.compile(default, numbers, rules)
    lenient = profile["defaultAction"] in _LENIENT
    head = _prologue(library, tokens, numbers, rules, stub=not lenient)
    program = head + body
    if len(program) // 8 > _MAX_INSTRUCTIONS:
        raise InvalidArgument(
            f"seccomp: profile: {len(program) // 8} instructions, the kernel takes 4096"
        )
    return Filter(program, _flags(profile))


def _flags(profile: Document) -> int:
    names = profile.get("flags")
    if names is None:
        return _DEFAULT_FLAGS
    flags = 0
    for name in names:
        if name not in _FLAGS:
            raise InvalidArgument(f"seccomp: {name}: unknown flag")
        flags |= _FLAGS[name]
    return flags


# Classic BPF: linux/filter.h, linux/bpf_common.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05
_IF_EQUAL = 0x15
_IF_GREATER = 0x25
_IF_GREATER_EQUAL = 0x35
_IF_BITS = 0x45
_AND = 0x54
_RETURN = 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]


def _prologue(
    library: libseccomp.Library,
    tokens: list[str],
    numbers: list[int],
    rules: list[libseccomp.Rule],
    *,
    stub: bool,
) -> bytes:
    """Return our own instructions; what they do not decide falls through to what follows."""
    parts: list[list[Instruction]] = []
    for token, number in zip(tokens or ["native"], numbers, strict=True):
        parts.append(_part(library, token, number, rules, stub=stub))
    code: list[Instruction] = []
    for index, part in enumerate(parts):
        if part:
            left = sum(len(later) for later in parts[index + 1 :])
            code += part[:-1]
            code.append((_JUMP, 0, 0, left) if left else part[-1])
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _part(
    library: libseccomp.Library,
    token: str,
    number: int,
    rules: list[libseccomp.Rule],
    *,
    stub: bool,
) -> list[Instruction]:
    """Return the instructions for one architecture. The last is a jump past the other parts."""
    x32 = token == "SCMP_ARCH_X32"
    newer = _newer(library, token, number, rules)
    known = [library.number(number, name) for name, _, _ in rules]
    known += [call for call, _, _ in newer]
    highest = max(known, default=-1)
    if highest < 0:
        return []
    body: list[Instruction] = []
    for call, action, arguments in newer:
        body += _decide(call, action, arguments)
    if stub:
        # 0xFFFFFFFF is what a tracer leaves to skip a call: nobody's, so not ours to answer
        body += [
            (_LOAD, 0, 0, _NUMBER),
            (_IF_EQUAL, 2, 0, 0xFFFF_FFFF),
            (_IF_GREATER, 0, 1, highest),
            (_RETURN, 0, 0, _RET["SCMP_ACT_ERRNO"] | _ENOSYS),
        ]
    body.append((_JUMP, 0, 0, 0))
    head: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    audit = _AUDIT_X86_64 if x32 else number
    # conditional jumps reach 255 instructions only, hence over a jump that _reach sets
    head += [(_IF_EQUAL, 1, 0, audit), (_JUMP, 0, 0, 0), (_LOAD, 0, 0, _NUMBER)]
    if audit == _AUDIT_X86_64:
        # the two share an architecture, a bit of the number tells them apart
        head += [
            (_IF_BITS, 1, 0, _X32_BIT) if x32 else (_IF_BITS, 0, 1, _X32_BIT),
            (_JUMP, 0, 0, 0),
        ]
    return _reach(head, len(body)) + body


def _reach(head: list[Instruction], body: int) -> list[Instruction]:
    """Set the unconditional jumps of ``head`` to the first instruction after ``body``."""
    whole = len(head) + body
    return [
        (code, jt, jf, whole - index - 1) if code == _JUMP else (code, jt, jf, k)
        for index, (code, jt, jf, k) in enumerate(head)
    ]


def _newer(
    library: libseccomp.Library, token: str, number: int, rules: list[libseccomp.Rule]
) -> list[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """Return the rules for calls that the library has no number for, with the number.

    A call that the library knows on any architecture is left to it.
    """
    only = _NEWER_ONLY.get(number, {})
    base = _X32_BIT if token == "SCMP_ARCH_X32" else 0
    found = []
    for name, action, arguments in rules:
        call = only.get(name)
        if call is None and name in _NEWER and not (base and name in _NOT_X32):
            call = _NEWER[name] | base
        if call is not None and library.number(number, name) == -1:
            found.append((call, action, arguments))
    return found


def _decide(
    call: int, action: int, arguments: list[tuple[int, int, int, int]]
) -> list[Instruction]:
    """Return: if it is this call and every argument is so, answer ``action``."""
    tests: list[Instruction] = []
    for argument in arguments:
        tests += _compare(*argument)
    # each test that fails jumps to the end of this block, marked with 255 until it is known
    block: list[Instruction] = [
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 0, 255, call),
        *tests,
        (_RETURN, 0, 0, action),
    ]
    size = len(block)
    return [
        (
            code,
            size - index - 1 if jt == 255 else jt,
            size - index - 1 if jf == 255 else jf,
            k,
        )
        for index, (code, jt, jf, k) in enumerate(block)
    ]


def _compare(index: int, op: int, a: int, b: int) -> list[Instruction]:
    """Return instructions that fall through when the comparison holds, else jump to 255.

    An argument is 64 bit, the machine 32: the high half decides unless it is equal.
    """
    low, high = _ARGUMENTS + 8 * index, _ARGUMENTS + 8 * index + 4
    if op == 7:
        mask, value = a, b
        return [
            (_LOAD, 0, 0, high),
            (_AND, 0, 0, mask >> 32),
            (_IF_EQUAL, 0, 255, (value & mask) >> 32),
            (_LOAD, 0, 0, low),
            (_AND, 0, 0, mask & 0xFFFF_FFFF),
            (_IF_EQUAL, 0, 255, value & mask & 0xFFFF_FFFF),
        ]
    top, bottom = a >> 32, a & 0xFFFF_FFFF
    load_high, load_low = (_LOAD, 0, 0, high), (_LOAD, 0, 0, low)
    if op == 4:
        return [load_high, (_IF_EQUAL, 0, 255, top), load_low, (_IF_EQUAL, 0, 255, bottom)]
    if op == 1:
        # another high half is enough: then over the two of the low one
        return [load_high, (_IF_EQUAL, 0, 2, top), load_low, (_IF_EQUAL, 255, 0, bottom)]
    greater = op in (5, 6)
    strict = _IF_GREATER if op in (3, 6) else _IF_GREATER_EQUAL
    last = (strict, 0, 255, bottom) if greater else (strict, 255, 0, bottom)
    if greater:
        return [
            load_high,
            (_IF_GREATER, 3, 0, top),
            (_IF_EQUAL, 0, 255, top),
            load_low,
            last,
        ]
    return [load_high, (_IF_GREATER, 255, 0, top), (_IF_EQUAL, 0, 2, top), load_low, last]


class Cache:
    """Compiled filters, in memory and in ``directory`` (made 0700 on first use)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: OrderedDict[bytes, Filter] = OrderedDict()

    def get(self, profile: Document) -> Filter:
        """Return the filter of OCI ``linux.seccomp``, compiling it if nobody has yet.

        Raises:
            InvalidArgument, Unavailable: see :func:`compile_profile`.
        """
        key = hashlib.sha256(msgspec.json.encode((_GENERATION, profile))).digest()
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        found = self._read(key) or self._make(key, profile)
        self._kept[key] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _path(self, key: bytes) -> Path:
        version = libseccomp.library().version
        return self._directory / f"{key.hex()}-{version}.bpf"

    def _read(self, key: bytes) -> Filter | None:
        """Return a filter from disk; one that was cut short is as good as none."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        digest, body = data[:32], data[32:]
        if len(body) < 12 or hashlib.sha256(body).digest() != digest:
            return None
        return Filter(body[4:], int.from_bytes(body[:4], "little"))

    def _make(self, key: bytes, profile: Document) -> Filter:
        made = compile_profile(profile)
        body = made.flags.to_bytes(4, "little") + made.program
        path = self._path(key)
        fresh = path.with_suffix(f".{os.getpid()}")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_bytes(hashlib.sha256(body).digest() + body)
            fresh.rename(path)
        except OSError:
            # a full disk must not keep a container from starting; it costs 10 ms next time
            fresh.unlink(missing_ok=True)
        return made
