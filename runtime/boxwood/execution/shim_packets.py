"""Packets to a shim, and the descriptors that travel with them."""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Sequence

import msgspec

from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    Conflict,
    Internal,
    InvalidArgument,
    LaunchError,
    NotFound,
    ResourceExhausted,
)
from boxwood_ext import protocol

log = logging.getLogger(__name__)

_ERRORS: dict[int, type[BoxwoodError]] = {
    errno.EEXIST: AlreadyExists,
    errno.ENOENT: NotFound,
    errno.ESRCH: NotFound,
    errno.EBUSY: Conflict,
    errno.EALREADY: Conflict,
    errno.EINVAL: InvalidArgument,
    errno.EUSERS: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
    errno.ENOSPC: ResourceExhausted,
}


class Packet(msgspec.Struct):
    """A packet that the socket did not take yet; its descriptors are duplicates of ours."""

    data: bytes
    fds: list[int]


def program_fd_of(program: bytes) -> int:
    """The program in a memfd: a packet would be too small for a large environment."""
    fd = os.memfd_create("launch-program", os.MFD_CLOEXEC)
    os.write(fd, program)
    return fd


def duplicate(fd: int) -> int:
    """A close-on-exec copy, which the caller closes."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def close_all(fds: Sequence[int]) -> None:
    """Close each."""
    for fd in fds:
        os.close(fd)


def send_packet(connection: socket.socket, data: bytes, fds: Sequence[int]) -> bool:
    """False: the socket takes nothing now. A broken connection is seen by the reader."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        connection.sendmsg([data], rights, socket.MSG_NOSIGNAL)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as error:
        log.debug("shim: send: %s", error)
    return True


def error_of(container: str, number: int, operation: str, target: str) -> BoxwoodError:
    """What a reply's errno means: LaunchError for an operation of a program, the class that fits
    for a message of ours."""
    cause = os.strerror(number).lower()
    if operation not in protocol.BY_NAME:
        return LaunchError(f"{operation}: {target}: {cause}", operation, target, number)
    kind = _ERRORS.get(number, Internal)
    return kind(f"shim {operation}: {target or container}: {cause}")
