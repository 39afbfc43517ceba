"""Faults at a chosen system call: a process is killed there, or the call fails.

The work runs in a child under a seccomp filter whose listener is here
(SECCOMP_FILTER_FLAG_NEW_LISTENER, seccomp_unotify(2)): of the calls that change something each one
waits for our answer, in all threads and processes that the work starts. So calls are counted
whatever library makes them, raw ones too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_RET_ALLOW, _RET_NOTIFY = 0x7FFF0000, 0x7FC00000
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_NOTIF = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1
_ENDING_SECONDS = 20.0
"""In which the work, and what it started, must have ended."""

# Calls that change a file system, or mount; numbers of x86_64 and of the generic table.
_CALLS: dict[str, tuple[int, int]] = {
    "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1), "unlink": (87, -1),
    "unlinkat": (263, 35), "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276),
    "link": (86, -1), "linkat": (265, 37), "symlink": (88, -1), "symlinkat": (266, 36),
    "mknod": (133, -1), "mknodat": (259, 33), "creat": (85, -1), "truncate": (76, 45),
    "ftruncate": (77, 46), "fallocate": (285, 47), "chmod": (90, -1), "fchmod": (91, 52),
    "fchmodat": (268, 53), "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1),
    "fchownat": (260, 54), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "copy_file_range": (326, 285), "mount": (165, 40),
    "umount2": (166, 39), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "open_tree": (428, 428),
    "mount_setattr": (442, 442),
}  # fmt: skip
_WRITES = {"write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66)}
"""Counted for descriptors above 2: what the work says is no change."""
_IOCTL = (16, 29)
_HARMLESS_IOCTLS = 0x5400
"""Of terminals and descriptors (asm-generic/ioctls.h): what Python asks whenever it opens."""
_SENDS = {"sendto": (44, 206), "sendmsg": (46, 211)}
"""Counted where a network driver is tried, for sockets to the kernel (netlink)."""
_PIDFD_GETFD = 438
_PR_SET_PDEATHSIG = 1
_OPENS = {"open": ((2, -1), 1), "openat": ((257, 56), 2)}
"""Counted where they make or empty a file; with the argument that has the flags."""


@dataclass
class Outcome:
    """What became of the work."""

    calls: list[str] = field(default_factory=list)
    """Names of the calls that were counted, in order."""
    hit: bool = False
    """Was the fault's call reached?"""
    status: int = 0
    """As waitpid(2) tells it."""
    words: str = ""
    """What the work returned; of an exception class and text."""


def supported() -> bool:
    """Can faults be made on this machine?"""
    return platform.machine() in _SECCOMP and os.geteuid() == 0


def attempt(
    work: Callable[[], str],
    *,
    at: int = -1,
    error: int = 0,
    network: bool = False,
    first: Callable[[], None] | None = None,
) -> Outcome:
    """Run ``work`` in a child, with a fault at the counted call number ``at`` (-1: none).

    With ``error`` that call fails with this errno; without, the child and all that it started are
    killed before the call is made. With ``network``, what is sent to the kernel (netlink) counts
    too. ``first`` is run in the child before any call is counted.
    """
    mine, its = socket.socketpair()
    with closing(mine), closing(its):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of pytest's plugins
            pid = os.fork()
        if pid == 0:
            _child(work, its, network, first)
        its.close()
        outcome = Outcome()
        listener = -1
        try:
            listener = _listener(mine, pid)
            _Watch(listener, pid, at, error, outcome).run()
        finally:
            if listener >= 0:
                os.close(listener)
            _, outcome.status = os.waitpid(pid, 0)
        with mine.makefile("rb") as file:
            outcome.words = file.read().decode()
    return outcome


def _listener(channel: socket.socket, pid: int) -> int:
    """Take the listener from the child, which tells its number there, and let it go on."""
    number = bytearray()
    while not number.endswith(b"\n"):
        piece = channel.recv(1)
        number += piece
        if not piece:
            raise OSError(f"the child ended before its work: {number.decode(errors='replace')}")
    process = os.pidfd_open(pid)
    try:
        listener = _taken(process, int(number))
    finally:
        os.close(process)
    channel.sendall(b"x")
    return listener


def _taken(process: int, fd: int) -> int:
    """Return a copy of another process's descriptor (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    copy = int(libc.syscall(_PIDFD_GETFD, process, ctypes.c_int(fd), 0))
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"pidfd_getfd: {os.strerror(number)}")
    return copy


def _child(
    work: Callable[[], str],
    answer: socket.socket,
    network: bool,
    first: Callable[[], None] | None,
) -> None:
    """Run the work under the filter; never returns."""
    words = "no listener"
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # What is written to the first three is not counted, and sending may be.
        os.dup2(answer.fileno(), 0)
        if first is not None:
            first()
        listener = _install(network)
        os.write(0, b"%d\n" % listener)
        answer.recv(1)
        os.close(listener)
        words = work()
    except BaseException as raised:  # noqa: BLE001 - told to the parent
        words = f"{type(raised).__name__}: {raised}"
    finally:
        os.write(0, words.encode(errors="replace"))
        os._exit(0)


class _Watch:
    """Answers the listener until nobody is left who could ask."""

    def __init__(self, listener: int, pid: int, at: int, error: int, outcome: Outcome) -> None:
        self._listener = listener
        self._pid = pid
        self._at = at
        self._error = error
        self._outcome = outcome
        self._names = {
            pair[_column()]: name
            for table in (
                _CALLS,
                _WRITES,
                _SENDS,
                {name: pair for name, (pair, _) in _OPENS.items()},
            )
            for name, pair in table.items()
        } | {_IOCTL[_column()]: "ioctl"}
        self._sends = {pair[_column()] for pair in _SENDS.values()}

    def run(self) -> None:
        """Watch to the end; raises TimeoutError, after it was killed."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        end = time.monotonic() + _ENDING_SECONDS
        while True:
            events = poll.poll(200)
            if events and events[0][1] & select.POLLIN:
                self._answer()
            elif events:  # POLLHUP: the last of them has ended
                return
            if time.monotonic() > end:
                os.killpg(self._pid, signal.SIGKILL)
                raise TimeoutError(f"the work did not end in {_ENDING_SECONDS:.0f} s")

    def _answer(self) -> None:
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self._listener, _NOTIF_RECV, buffer)
        except OSError as error:
            if error.errno == errno.ENOENT:  # who asked was killed meanwhile
                return
            raise
        identity, asking, _, number, _, _, first, *_ = _NOTIF.unpack(buffer)
        mine = False
        if self._counts(asking) and (number not in self._sends or _to_kernel(asking, first)):
            mine = len(self._outcome.calls) == self._at
            self._outcome.calls.append(self._names.get(number, str(number)))
        flags, code = _CONTINUE, 0
        if mine:
            self._outcome.hit = True
            if not self._error:
                os.killpg(self._pid, signal.SIGKILL)
            else:
                flags, code = 0, -self._error
        try:
            fcntl.ioctl(
                self._listener, _NOTIF_SEND, bytearray(_ANSWER.pack(identity, 0, code, flags))
            )
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _counts(self, asking: int) -> bool:
        """Is it the work's call? What left its group, a file system's server, is no part of it."""
        try:
            return os.getpgid(asking) == self._pid
        except ProcessLookupError:
            return False


def _to_kernel(asking: int, fd: int) -> bool:
    """Is the descriptor of the thread that asks a netlink socket?"""
    try:
        with open(f"/proc/{asking}/status", encoding="ascii") as file:
            group = next(line for line in file if line.startswith("Tgid:"))
        process = os.pidfd_open(int(group.split()[1]))
    except (FileNotFoundError, ProcessLookupError):  # it was killed meanwhile
        return False
    try:
        copy = _taken(process, fd & 0xFFFFFFFF)
    except OSError:
        return False
    finally:
        os.close(process)
    with socket.socket(fileno=copy) as found:
        return found.family == socket.AF_NETLINK


def _column() -> int:
    return 0 if platform.machine() == "x86_64" else 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _install(network: bool) -> int:
    """Filter this process from here on; returns the listener."""
    code = _filter(_SENDS if network else {})
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    listener = libc.syscall(
        _SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program)
    )
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return int(listener)


def _filter(sends: dict[str, tuple[int, int]]) -> bytes:
    """Return the program: classic BPF over struct seccomp_data (nr, arch, ip, six arguments)."""
    load, equal, more, bits, give, both = 0x20, 0x15, 0x25, 0x45, 0x06, 0x54
    column = _column()
    lines = [
        (load, 0, 0, 4), (equal, 1, 0, _AUDIT_ARCH[platform.machine()]), (give, 0, 0, _RET_ALLOW),
        (load, 0, 0, 0),
    ]  # fmt: skip
    for pair in (*_CALLS.values(), *sends.values()):
        if pair[column] >= 0:
            lines += [(equal, 0, 1, pair[column]), (give, 0, 0, _RET_NOTIFY)]
    for pair in _WRITES.values():
        # The first argument, its low half.
        lines += [(equal, 0, 4, pair[column]), (load, 0, 0, 16), (more, 0, 1, 2)]
        lines += [(give, 0, 0, _RET_NOTIFY), (give, 0, 0, _RET_ALLOW)]
    lines += [(equal, 0, 5, _IOCTL[column]), (load, 0, 0, 24), (both, 0, 0, 0xFF00)]
    lines += [(equal, 0, 1, _HARMLESS_IOCTLS), (give, 0, 0, _RET_ALLOW), (give, 0, 0, _RET_NOTIFY)]
    makes = os.O_CREAT | os.O_TRUNC
    for pair, argument in _OPENS.values():
        if pair[column] >= 0:
            lines += [(equal, 0, 4, pair[column]), (load, 0, 0, 16 + 8 * argument)]
            lines += [(bits, 0, 1, makes), (give, 0, 0, _RET_NOTIFY), (give, 0, 0, _RET_ALLOW)]
    lines.append((give, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
