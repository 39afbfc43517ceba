"""A classic BPF machine over struct seccomp_data, and a judge of Docker's profiles.

Both are slow and obvious: they are the oracle of the compiled filters.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

MASK = 0xFFFF_FFFF
AUDIT = {"x86_64": 0xC000_003E, "x86": 0x4000_0003, "x32": 0xC000_003E}
X32_BIT = 0x4000_0000
ALLOW, EPERM, ENOSYS = 0x7FFF_0000, 0x0005_0001, 0x0005_0026


def unpack(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", program))


def run(
    code: Sequence[tuple[int, int, int, int]], arch: int, number: int, args: Sequence[int] = ()
) -> int:
    """Return the action word."""
    values = [*args, *([0] * (6 - len(args)))]
    data = struct.pack("<IIQ6Q", number & MASK, arch, 0, *[v & ((1 << 64) - 1) for v in values])
    accumulator, position, memory, index = 0, 0, [0] * 16, 0
    for _ in range(len(code) + 1):
        op, jt, jf, k = code[position]
        position += 1
        kind = op & 7
        if kind == 6:
            return k if op & 0x18 == 0 else accumulator
        if op == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif op == 0x54:
            accumulator &= k
        elif op == 0x02:
            memory[k] = accumulator
        elif op == 0x60:
            accumulator = memory[k]
        elif op == 0x07:
            index = accumulator
        elif op == 0x87:
            accumulator = index
        elif op == 0x05:
            position += k
        elif kind == 5:
            test = {
                0x10: accumulator == k,
                0x20: accumulator > k,
                0x30: accumulator >= k,
                0x40: bool(accumulator & k),
            }
            position += jt if test[op & 0x70] else jf
        else:
            raise AssertionError(f"instruction {op:#x}")
    raise AssertionError("the program does not end")


@lru_cache(maxsize=1)
def _library() -> Any:
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    return lib


_TOKENS = {"x86_64": 0xC000_003E, "x86": 0x4000_0003, "x32": 0x4000_003E}
# What libseccomp 2.5.4 cannot name, from the kernel's tables.
_LATER = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}


# i386 has these both behind socketcall and ipc, for which the library answers with a number of its
# own, and (since 4.3 and 5.1) directly: the kernel's table.
_X86_DIRECT = {
    name: first + place
    for first, names in (
        (337, "recvmmsg"),
        (345, "sendmmsg"),
        (
            359,
            "socket socketpair bind connect listen accept4 getsockopt setsockopt getsockname "
            "getpeername sendto sendmsg recvfrom recvmsg shutdown",
        ),
        (393, "semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl"),
    )
    for place, name in enumerate(names.split())
}


@lru_cache(maxsize=4096)
def number(arch: str, name: str) -> int:
    """Return the number of a call, negative if there is none."""
    if name == "map_shadow_stack" and arch == "x32":
        return -1  # of the 64-bit entry point alone
    if name in _LATER:
        return _LATER[name] | (X32_BIT if arch == "x32" else 0)
    if arch == "x86" and name in _X86_DIRECT:
        return _X86_DIRECT[name]
    if name == "uretprobe":
        return 335 if arch == "x86_64" else -1
    return int(_library().seccomp_syscall_resolve_name_arch(_TOKENS[arch], name.encode()))


def _holds(arg: dict[str, Any], args: Sequence[int]) -> bool:
    have, value = args[arg["index"]], arg["value"]
    return {
        "SCMP_CMP_NE": have != value,
        "SCMP_CMP_LT": have < value,
        "SCMP_CMP_LE": have <= value,
        "SCMP_CMP_EQ": have == value,
        "SCMP_CMP_GE": have >= value,
        "SCMP_CMP_GT": have > value,
        "SCMP_CMP_MASKED_EQ": (have & value) == arg.get("valueTwo", 0),
    }[arg["op"]]


class Judge:
    """Decides by Docker's JSON alone, for a machine of this architecture (amd64)."""

    def __init__(
        self, profile: dict[str, Any], caps: frozenset[str], kernel: tuple[int, int]
    ) -> None:
        self.profile = profile
        self.rules = [rule for rule in profile["syscalls"] if self._counts(rule, caps, kernel)]
        self.default = 0x0005_0000 | profile.get("defaultErrnoRet", 1)

    @staticmethod
    def _counts(rule: dict[str, Any], caps: frozenset[str], kernel: tuple[int, int]) -> bool:
        inc, exc = rule.get("includes") or {}, rule.get("excludes") or {}
        if inc.get("arches") and "amd64" not in inc["arches"]:
            return False
        if any(cap not in caps for cap in inc.get("caps") or ()):
            return False
        if inc.get("minKernel"):
            major, minor = inc["minKernel"].split(".")
            if kernel < (int(major), int(minor)):
                return False
        if "amd64" in (exc.get("arches") or ()):
            return False
        return not any(cap in caps for cap in exc.get("caps") or ())

    def numbers(self, arch: str) -> dict[int, list[dict[str, Any]]]:
        """The rules of each call that some rule names."""
        found: dict[int, list[dict[str, Any]]] = {}
        for rule in self.rules:
            for name in rule["names"]:
                call = number(arch, name)
                if call >= 0:
                    found.setdefault(call, []).append(rule)
        return found

    def decide(self, found: dict[int, list[dict[str, Any]]], call: int, args: Sequence[int]) -> int:
        if call > max(found):
            return ENOSYS
        verdicts = set()
        for rule in found.get(call, ()):
            if all(_holds(arg, args) for arg in rule.get("args") or ()):
                word = (
                    ALLOW
                    if rule["action"] == "SCMP_ACT_ALLOW"
                    else 0x0005_0000 | rule.get("errnoRet", 1)
                )
                verdicts.add(word)
        if not verdicts:
            return self.default
        assert len(verdicts) == 1, f"call {call}: the profile contradicts itself"
        return verdicts.pop()
