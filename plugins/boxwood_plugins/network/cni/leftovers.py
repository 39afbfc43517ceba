"""What a daemon that was killed left behind: plugins that still run, and sandboxes that live on."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from boxwood.errors import Unavailable
from boxwood_ext import net

_SO_NETNS_COOKIE: Final = 71
"""asm-generic/socket.h, Linux 5.14: a number that no other namespace has had since the boot."""
_ENDING_SECONDS: Final = 10.0
"""In which a killed plugin must have ended."""


class Identity(msgspec.Struct, frozen=True):
    """A network namespace: its inode, by which it is found, and its cookie, which proves it."""

    inode: int = 0
    cookie: int = 0


def identity(netns: int) -> Identity:
    """Return a namespace's identity; raises OSError."""
    return Identity(os.fstat(netns).st_ino, _cookie(netns))


def find(wanted: Identity) -> int | None:
    """Return a descriptor, the caller's, of a namespace that lives on; None: it does not."""
    if not wanted.cookie:
        return None
    for place in _places(wanted.inode):
        with suppress(OSError):  # it is going
            netns = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _cookie(netns) == wanted.cookie:
                    return os.dup(netns)
            finally:
                os.close(netns)
    return None


def _cookie(netns: int) -> int:
    with (
        net.Netlink(netns) as channel,
        closing(socket.socket(fileno=os.dup(channel.fileno()))) as inside,
        suppress(OSError),  # an old kernel
    ):
        told = inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return int(struct.unpack("=Q", told)[0])
    return 0


def _places(inode: int) -> Iterator[str]:
    """Yield where the namespace of this inode may be opened: mounts (proc(5)) and processes."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[3] == f"net:[{inode}]":
            yield fields[4].encode().decode("unicode_escape")
    for process in _processes():
        with suppress(OSError):
            place = f"/proc/{process}/ns/net"
            if os.stat(place).st_ino == inode:
                yield place


def hold(file: Path) -> int:
    """Open and lock a file, for plugins to inherit: locked as long as one of them has it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def end(file: Path) -> None:
    """Kill who still holds the file, and wait until nobody does.

    Raises:
        Unavailable: one does not end.
    """
    try:
        mine = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        until = time.monotonic() + _ENDING_SECONDS
        while not _locked(mine):
            if time.monotonic() > until:
                raise Unavailable("cni: a plugin that was started before does not end")
            for process in _holders(os.fstat(mine)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
    finally:
        os.close(mine)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(file: os.stat_result) -> Iterator[int]:
    """Yield the other processes that have the file open."""
    for process in _processes():
        if process == os.getpid():
            continue
        with suppress(OSError):
            fds = [f"/proc/{process}/fd/{fd}" for fd in os.listdir(f"/proc/{process}/fd")]
            if any(_same(fd, file) for fd in fds):
                yield process


def _same(path: str, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), file)
    except OSError:  # closed meanwhile
        return False


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
