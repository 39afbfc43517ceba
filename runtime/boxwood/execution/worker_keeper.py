"""The keeper of the workers: a confined process that forks one child for each job.

It is started with ``-I -S`` and a search path of its own, loads what the jobs use once, and never
reads a byte of anybody's archive or container itself.
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import sys
from typing import NoReturn

import msgspec

from boxwood.errors import BoxwoodError
from boxwood.execution import confine
from boxwood.execution.worker_jobs import JOBS, translate
from boxwood.execution.worker_wire import HOST_DIRECTORY, MESSAGE_LIMIT, Answer, Request

_FDS_LIMIT = 253
"""Descriptors in one message (net/core/scm.h, SCM_MAX_FD)."""


def main(control_fd: int) -> None:
    """Serve requests until the daemon closes its end."""
    control = socket.socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    confine.begin({capability for job in JOBS.values() for capability in job.capabilities})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave nothing to wait for
    gc.collect()
    gc.freeze()  # so that a child's collections copy none of what all share
    while _serve_one(control):
        pass


def _serve_one(control: socket.socket) -> bool:
    data, ancillary, flags, _ = control.recvmsg(
        MESSAGE_LIMIT, socket.CMSG_SPACE(4 * _FDS_LIMIT), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data and not fds:
        return False
    keeper = os.getpid()
    if os.fork() == 0:
        control.close()
        broken = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
        _child(keeper, b"" if broken else data, list(fds))
    for fd in fds:
        os.close(fd)
    return True


def _child(keeper: int, data: bytes, fds: list[int]) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        confine.die_with_parent(keeper)
        channel = socket.socket(fileno=fds.pop(0))
        pidfd = os.pidfd_open(os.getpid())
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
        channel.sendmsg([b"p"], rights)
        os.close(pidfd)
        channel.send(msgspec.msgpack.encode(_answer(data, fds)))
        status = 0
    except (BrokenPipeError, ConnectionError):
        status = 0  # nobody waits any longer
    finally:
        sys.stderr.flush()
        os._exit(status)


def _answer(data: bytes, fds: list[int]) -> Answer:
    try:
        request = msgspec.msgpack.decode(data, type=Request)
        job = JOBS[request.job]
        confine.keep_capabilities(job.capabilities, bounding=False)
        directory = request.arguments.pop(HOST_DIRECTORY, None)
        if directory is not None:
            fds.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        confine.only_beneath(fds)
        answer = Answer(result=job.run(request.arguments, fds))
    except BoxwoodError as error:
        answer = Answer(error=type(error).__name__, message=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it was, the caller hears of it
        known = translate(error)
        answer = Answer(error=type(known).__name__, message=str(known))
    if len(msgspec.msgpack.encode(answer)) > MESSAGE_LIMIT:
        return Answer(error="TooLarge", message="worker: the answer is too large")
    return answer
