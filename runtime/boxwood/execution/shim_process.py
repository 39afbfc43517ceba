"""The shim's program and its processes: sealed once, started often, one kept ready."""

from __future__ import annotations

import fcntl
import os
import socket
from importlib import resources
from pathlib import Path

import msgspec

from boxwood.errors import Unavailable
from boxwood_ext import launch


def executable() -> int:
    """The shim's program in a sealed memfd, made once."""
    global _executable
    if _executable is None:
        _executable = seal(shim_path())
    return _executable


def seal(program: Path) -> int:
    """A copy of the program that nobody can write to, as a descriptor: what a container could
    reach of it through /proc/PID/exe is neither the file nor can be changed (CVE-2019-5736)."""
    fd = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, program.read_bytes())
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


_executable: int | None = None


def shim_path() -> Path:
    """The program's file; bound read-only on /sbin/docker-init it is the init of ``--init``."""
    return Path(str(resources.files("boxwood_ext") / "bin" / "boxwood-shim"))


class ShimProcess(msgspec.Struct):
    """A shim's process and our end of its first connection."""

    pid: int
    pidfd: int
    connection: socket.socket


def spawn_process() -> ShimProcess:
    """Start a shim that nobody has configured yet; raises Unavailable."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid, pidfd = launch.spawn_shim(executable(), [theirs.fileno()])
    except OSError as error:
        ours.close()
        raise Unavailable(f"shim: start: {error.strerror}") from error
    finally:
        theirs.close()
    return ShimProcess(pid, pidfd, ours)


def connect(directory: Path, name: str = "shim.sock") -> socket.socket | None:
    """Connect to the shim (or what else has a socket) in this directory, or None: none listens.

    Raises:
        BlockingIOError: there is one, busy: try again.
        Unavailable: anything else; whether there is one is not known.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    folder = -1
    try:
        # Through a descriptor: the path may be longer than a socket's address takes.
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connection.connect(f"/proc/self/fd/{folder}/{name}")
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connection.close()
        return None
    except BlockingIOError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise Unavailable(f"connect: {directory / name}: {error.strerror}") from error
    finally:
        if folder >= 0:
            os.close(folder)
    return connection
