"""Seccomp profiles: Docker's JSON form, and what becomes of one on this machine.

A *profile* says which calls are decided how, under conditions of capabilities, architecture and
kernel. *Resolving* it for one container drops the conditions and gives the ``linux.seccomp``
object of the OCI runtime spec, which an isolation driver compiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from boxwood.errors import InvalidArgument

Action = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]
Compare = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]

# 256 KiB: sixteen times Docker's own profile. The document comes with a request, so it is bounded.
MAX_PROFILE_BYTES = 256 * 1024

# What Docker's files call an architecture (Go's names), by what the kernel calls it, and the
# libseccomp token of it.
GO_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison of one argument, unsigned 64 bit. For MASKED_EQ ``value`` is the mask."""

    index: int
    value: int = 0
    value_two: int = msgspec.field(default=0, name="valueTwo")
    op: Compare


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """When a rule counts. As ``includes`` every part must hold, as ``excludes`` none may."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = msgspec.field(default="", name="minKernel")


_ALWAYS = Condition()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Calls by name, and what is answered."""

    names: tuple[str, ...]
    action: Action
    errno_ret: int | None = None
    args: tuple[Argument, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole profile. ``architectures`` wins over ``sub_architectures`` when it is given."""

    default_action: Action
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    sub_architectures: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    flags: tuple[str, ...] | None = None
    rules: tuple[Rule, ...]


def allow(
    names: str,
    *,
    args: tuple[Argument, ...] = (),
    includes: Condition = _ALWAYS,
    excludes: Condition = _ALWAYS,
) -> Rule:
    """Return a rule that allows the blank-separated ``names``."""
    return Rule(
        names=tuple(names.split()),
        action="SCMP_ACT_ALLOW",
        args=args,
        includes=includes,
        excludes=excludes,
    )


class _WireCondition(msgspec.Struct, frozen=True, rename="camel"):
    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str | None = None


class _WireRule(msgspec.Struct, frozen=True, rename="camel"):
    action: Action
    name: str = ""
    names: tuple[str, ...] | None = None
    errno_ret: int | None = None
    args: tuple[Argument, ...] | None = None
    includes: _WireCondition | None = None
    excludes: _WireCondition | None = None


class _WireArch(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class _WireProfile(msgspec.Struct, frozen=True, rename="camel"):
    default_action: Action
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[_WireArch, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    syscalls: tuple[_WireRule, ...] | None = None


def parse_profile(text: str) -> Profile:
    """Decode Docker's JSON form of a profile.

    Raises:
        InvalidArgument: not JSON, not a profile, too long, or contradicting itself.
    """
    if len(text) > MAX_PROFILE_BYTES:
        raise InvalidArgument(f"seccomp: profile: longer than {MAX_PROFILE_BYTES} bytes")
    try:
        wire = msgspec.json.decode(text, type=_WireProfile)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    if wire.architectures and wire.arch_map:
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile"
        )
    if wire.listener_path or "SCMP_ACT_NOTIFY" in _actions(wire):
        raise InvalidArgument(
            "seccomp: profile: SCMP_ACT_NOTIFY needs a listener, which is not served"
        )
    return Profile(
        default_action=wire.default_action,
        default_errno_ret=wire.default_errno_ret,
        architectures=wire.architectures or (),
        sub_architectures={
            arch.architecture: arch.sub_architectures or () for arch in wire.arch_map or ()
        },
        flags=wire.flags,
        rules=tuple(_rule(rule) for rule in wire.syscalls or ()),
    )


def _actions(wire: _WireProfile) -> set[str]:
    return {wire.default_action, *(rule.action for rule in wire.syscalls or ())}


def _rule(wire: _WireRule) -> Rule:
    """Return the rule, its older form with one ``name`` included."""
    if wire.name and wire.names:
        raise InvalidArgument("both 'name' and 'names' are specified in the seccomp profile")
    names = wire.names or ((wire.name,) if wire.name else ())
    if not names:
        raise InvalidArgument("seccomp: profile: a rule names no system call")
    for argument in wire.args or ():
        if not 0 <= argument.index <= 5:
            raise InvalidArgument(f"seccomp: {names[0]}: no argument with index {argument.index}")
    return Rule(
        names=names,
        action=wire.action,
        errno_ret=wire.errno_ret,
        args=wire.args or (),
        includes=_condition(wire.includes),
        excludes=_condition(wire.excludes),
    )


def _condition(wire: _WireCondition | None) -> Condition:
    if wire is None:
        return Condition()
    if wire.min_kernel:
        _kernel(wire.min_kernel)
    return Condition(
        caps=wire.caps or (), arches=wire.arches or (), min_kernel=wire.min_kernel or ""
    )


def _kernel(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise InvalidArgument(f"seccomp: minKernel: {text}: want <major>.<minor>")
    return int(major), int(minor)


def resolve(
    profile: Profile, capabilities: Iterable[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """Return the OCI ``linux.seccomp`` object of a profile for one container.

    Args:
        capabilities: the container's bounding set, ``CAP_`` names.
        architecture: as ``uname -m``.
        kernel: major and minor version of the running kernel.

    The result is fresh, but its lists of names are shared tuples.
    """
    held = frozenset(capabilities)
    go_name, token = GO_ARCHITECTURES.get(architecture, (architecture, ""))
    result: dict[str, Any] = {"defaultAction": profile.default_action}
    if profile.default_errno_ret is not None:
        result["defaultErrnoRet"] = profile.default_errno_ret
    architectures = profile.architectures or (
        (token, *profile.sub_architectures[token]) if token in profile.sub_architectures else ()
    )
    if architectures:
        result["architectures"] = list(architectures)
    if profile.flags is not None:
        result["flags"] = list(profile.flags)
    result["syscalls"] = [
        _oci_rule(rule) for rule in profile.rules if _counts(rule, held, go_name, kernel)
    ]
    return result


def _counts(rule: Rule, held: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    wanted, refused = rule.includes, rule.excludes
    if wanted.arches and arch not in wanted.arches:
        return False
    if not held.issuperset(wanted.caps):
        return False
    if wanted.min_kernel and kernel < _kernel(wanted.min_kernel):
        return False
    if arch in refused.arches or not held.isdisjoint(refused.caps):
        return False
    return not (refused.min_kernel and kernel >= _kernel(refused.min_kernel))


def _oci_rule(rule: Rule) -> dict[str, Any]:
    made: dict[str, Any] = {"names": rule.names, "action": rule.action}
    if rule.errno_ret is not None:
        made["errnoRet"] = rule.errno_ret
    if rule.args:
        made["args"] = [
            {"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op}
            for arg in rule.args
        ]
    return made
