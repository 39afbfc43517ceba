"""Device control on cgroup v2: an eBPF program made here and attached with bpf(2).

The program is a handful of comparisons for each exception (linux/bpf.h, bpf_cgroup_dev_ctx), so
no compiler is needed. It lives as long as the group it is attached to.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from functools import lru_cache

from boxwood.errors import Internal, Unavailable
from boxwood_plugins.isolation.native.device_rules import WILD, Devices

# Little-endian machines: the halves of a register byte are the other way round on the others.
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}
# linux/bpf.h
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_ACCESS = {"m": 1, "r": 2, "w": 4}
_KIND = {"b": 1, "c": 2}

# Instructions: code, dst | src << 4, offset, immediate.
_LOAD_WORD = 0x61  # dst = *(u32 *)(src + offset)
_MOVE, _MOVE_REG = 0xB4, 0xBC  # 32 bit
_AND, _SHIFT_RIGHT = 0x54, 0x74
_JUMP_NOT_EQUAL, _JUMP_SET = 0x56, 0x46
_EXIT = 0x95
_R0, _R1, _R2, _R3, _R4, _R5, _R6 = range(7)

Instruction = tuple[int, int, int, int]


def _pack(code: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<BBhi", *instruction) for instruction in code)


def assemble(devices: Devices) -> bytes:
    """Return the program: 1 allows, 0 answers EPERM.

    r2: kind, r3: access asked for, r4: major, r5: minor.
    """
    code: list[Instruction] = [
        (_LOAD_WORD, _R2 | _R1 << 4, 0, 0),
        (_MOVE_REG, _R3 | _R2 << 4, 0, 0),
        (_AND, _R2, 0, 0xFFFF),
        (_SHIFT_RIGHT, _R3, 0, 16),
        (_LOAD_WORD, _R4 | _R1 << 4, 4, 0),
        (_LOAD_WORD, _R5 | _R1 << 4, 8, 0),
    ]
    for key, letters in devices.exceptions.items():
        bits = sum(_ACCESS[letter] for letter in letters)
        tests: list[Instruction] = [(_JUMP_NOT_EQUAL, _R2, 0, _KIND[key.kind])]
        if key.major != WILD:
            tests.append((_JUMP_NOT_EQUAL, _R4, 0, key.major))
        if key.minor != WILD:
            tests.append((_JUMP_NOT_EQUAL, _R5, 0, key.minor))
        tests += _access_test(bits, denied=devices.allow)
        code += _block(tests, answer=0 if devices.allow else 1)
    code += [(_MOVE, _R0, 0, int(devices.allow)), (_EXIT, 0, 0, 0)]
    return _pack(code)


def _access_test(bits: int, *, denied: bool) -> list[Instruction]:
    """An allowed exception must cover all that is asked for; a denied one any of it."""
    if denied:
        return [
            (_MOVE_REG, _R6 | _R3 << 4, 0, 0),
            (_AND, _R6, 0, bits),
            (0x16, _R6, 0, 0),  # BPF_JMP32 | BPF_JEQ: none of it
        ]
    return [(_JUMP_SET, _R3, 0, 7 & ~bits)] if bits != 7 else []


def _block(tests: list[Instruction], *, answer: int) -> list[Instruction]:
    """Return: every test passed: answer. Jumps go to the end of the block."""
    end: list[Instruction] = [(_MOVE, _R0, 0, answer), (_EXIT, 0, 0, 0)]
    block = [*tests, *end]
    jumps = (_JUMP_NOT_EQUAL, _JUMP_SET, 0x16)
    return [
        (code, registers, len(block) - index - 1, immediate)
        if code in jumps and index < len(tests)
        else (code, registers, offset, immediate)
        for index, (code, registers, offset, immediate) in enumerate(block)
    ]


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attribute: bytes) -> int:
    """Call bpf(2).

    Raises:
        OSError: its errno.
        Unavailable: no number is known for this architecture.
    """
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise Unavailable(f"bpf: {platform.machine()}: unknown architecture")
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    answer = _libc().syscall(
        ctypes.c_long(number),
        ctypes.c_int(command),
        ctypes.byref(buffer),
        ctypes.c_uint(len(attribute)),
    )
    if answer < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return int(answer)


def load(devices: Devices) -> int:
    """Load the program and return its descriptor, which is the caller's.

    Raises:
        OSError: the verifier or the lack of a privilege (errno).
    """
    program = assemble(devices)
    code = ctypes.create_string_buffer(program, len(program))
    name = ctypes.create_string_buffer(b"Apache-2.0")
    attribute = struct.pack(
        "<IIQQIIQII",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(name),
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(_PROG_LOAD, attribute)


def attach(group_fd: int, devices: Devices) -> None:
    """Put the rules on a v2 group.

    Raises:
        Internal: the kernel refused the program.
    """
    try:
        program = load(devices)
        try:
            _bpf(
                _PROG_ATTACH,
                struct.pack("<IIII", group_fd, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI),
            )
        finally:
            os.close(program)
    except OSError as error:
        raise Internal(f"cgroup: devices: bpf: {error.strerror}") from error
