"""Confinement of worker processes: what they give up before they touch what may be hostile.

No new privileges, few capabilities, no network, no mounts, no execution of anything (seccomp), no
path outside of the directories that were handed over (Landlock, where the kernel has it), limits,
death with the parent. Only the raw kernel interfaces are used, by ctypes: prctl(2), capset(2),
landlock_restrict_self(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import stat
import struct
from collections.abc import Iterable, Sequence

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID = 0, 1, 2, 3, 4
SYS_ADMIN, MKNOD, SETFCAP = 21, 27, 31
"""Capability numbers, linux/capability.h. SYS_ADMIN is for attributes below ``trusted.``."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

# Numbers of linux/audit.h and of the system call tables.
_ARCHES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CALLS: dict[str, tuple[int, int]] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kill": (62, 129),
    "tkill": (200, 130),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "personality": (135, 92),
}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return result


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, f"prctl {option}: {os.strerror(failed)}")


def _filter() -> bytes | None:
    """Return the program (struct sock_filter[]): the calls above answer EPERM."""
    arch = _ARCHES.get(platform.machine())
    if arch is None:
        return None
    audit, column = arch
    numbers = [pair[column] for pair in _CALLS.values()]
    load, jump_equal, jump_ge, answer = 0x20, 0x15, 0x35, 0x06
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000 | 1
    program = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (jump_equal, 1, 0, audit),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # seccomp_data.nr
        (jump_ge, 0, 1, 0x40000000),  # the x32 calls, known by no table
        (answer, 0, 0, kill),
    ]
    for at, number in enumerate(numbers):
        program.append((jump_equal, len(numbers) - at, 0, number))
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    return b"".join(struct.pack("HBBI", *line) for line in program)


def forbid_calls() -> None:
    """Install the filter, for this process and all it forks."""
    program = _filter()
    if program is None:
        return
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(header, len(header))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, holder, 0, 0) < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, f"seccomp: {os.strerror(failed)}")


def keep_capabilities(wanted: Iterable[int], *, bounding: bool) -> None:
    """Keep only ``wanted`` of the capabilities this process has; with ``bounding`` for good."""
    mask = 0
    for capability in wanted:
        mask |= 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if _libc.capget(header, sets) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    held = sets[1] | sets[4] << 32
    if bounding and held & 1 << 8:  # CAP_SETPCAP, without which there is nothing to drop
        for capability in range(64):
            if not mask & 1 << capability:
                try:
                    _prctl(_PR_CAPBSET_DROP, capability)
                except OSError:
                    break  # past the last one that this kernel knows
    kept = held & mask
    low, high = kept & 0xFFFFFFFF, kept >> 32
    fresh = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc.capset(header, fresh) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def landlock_version() -> int:
    """Return the version of Landlock that the kernel speaks, 0 without it."""
    try:
        return _call(
            _LANDLOCK_CREATE_RULESET,
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION),
        )
    except OSError:
        return 0


def only_beneath(fds: Sequence[int]) -> None:
    """Allow no path but those beneath the directories among ``fds``; open files stay open."""
    version = landlock_version()
    if version == 0:
        return
    # linux/landlock.h: 13 rights in version 1, then refer, truncate and, from 5 on, ioctl.
    rights = (1 << 13 + min(version - 1, 2)) - 1 | (1 << 15 if version >= 5 else 0)
    attribute = ctypes.create_string_buffer(struct.pack("Q", rights), 8)
    ruleset = _call(_LANDLOCK_CREATE_RULESET, attribute, ctypes.c_size_t(8), ctypes.c_uint32(0))
    for fd in fds:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12)
            _call(
                _LANDLOCK_ADD_RULE,
                ctypes.c_int(ruleset),
                ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH),
                rule,
                ctypes.c_uint32(0),
            )
    _call(_LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends; ``parent`` is its pid, looked at once more."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def begin(capabilities: Iterable[int]) -> None:
    """What the first process of the workers gives up, before it is given any work."""
    os.umask(0)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep_capabilities(capabilities, bounding=True)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    forbid_calls()
