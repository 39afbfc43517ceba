"""A file system that hangs: FUSE spoken by hand, with nobody who answers."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.needs import need, until

_libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
_IN_HEADER = struct.Struct("IIQQIIII")  # linux/fuse.h: struct fuse_in_header
_OUT_HEADER = struct.Struct("IiQ")
_INIT, _INIT_VERSION = 26, (7, 26)


_servers: dict[Path, subprocess.Popen[bytes]] = {}


def server_of(point: Path) -> int:
    """Return the process id of the server of a hung mount."""
    return _servers[point].pid


def until_asked(point: Path) -> None:
    """Wait until somebody waits for the hung file system; told once for each request."""
    stdout = _servers[point].stdout
    assert stdout is not None
    found, _, _ = select.select([stdout], [], [], 30)
    assert found, f"nobody has asked {point} for anything"
    os.read(stdout.fileno(), 1 << 16)


@contextmanager
def hung_mount(point: Path) -> Iterator[Path]:
    """Mount it on ``point``: the server takes each request and never answers.

    So whoever looks below it waits in the kernel, and not even SIGKILL ends that: the request is
    with the server. It is over when the server goes. The server is a process of its own: were it
    this one, a slip of a test would hang the tests.
    """
    need(os.path.exists("/dev/fuse"), "/dev/fuse")
    with subprocess.Popen(
        [sys.executable, "-c", f"from tests.faults.hungfs import serve; serve({str(point)!r})"],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as server:
        _servers[point] = server
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"mounted\n"
            yield point
        finally:
            server.kill()
            server.wait()
            _libc.umount2(str(point).encode(), MNT_DETACH)
    until(lambda: not os.path.ismount(point), "the hung file system is gone")


def serve(point: str) -> None:
    """Be the server until killed."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if _libc.mount(b"boxwood-hung", point.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount fuse")
    _greet(device)
    print("mounted", flush=True)
    while True:
        select.select([device], [], [])
        os.read(device, 1 << 20)  # taken, and never answered
        print("asked", flush=True)


def _greet(device: int) -> None:
    """Answer the first request: without that everything waits, but could be interrupted."""
    request = os.read(device, 1 << 20)
    _, code, unique, *_ = _IN_HEADER.unpack_from(request)
    assert code == _INIT
    # struct fuse_init_out up to version 7.22 and its reserve: 64 bytes.
    body = struct.pack("IIIIHHII", *_INIT_VERSION, 0, 0, 0, 0, 1 << 16, 1).ljust(64, b"\0")
    os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body)
