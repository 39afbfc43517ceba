"""Sockets that the server listens on. No network service is started here."""

from __future__ import annotations

import grp
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import NamedTuple

from boxwood.errors import AlreadyExists, InvalidArgument, Unavailable

BACKLOG = 512
"""Connections that wait for accept: 64 clients at once start several each."""
LISTEN_FDS_START = 3
"""sd_listen_fds(3)."""


class Listener(NamedTuple):
    """A bound, listening socket, and the TLS it speaks, if any."""

    socket: socket.socket
    address: str
    """As the user wrote it: ``unix:///run/x.sock``, ``tcp://127.0.0.1:2376``, ``fd://``."""
    tls: ssl.SSLContext | None = None
    path: Path | None = None
    """The file of a unix socket that we made: removed when the server stops."""


def open_unix(path: Path, group: str = "", mode: int = 0o660) -> Listener:
    """Listen on a unix socket that only its owner and ``group`` may open.

    A name or a number is good for ``group``; empty leaves the socket to our own group. A socket
    that nobody listens on any more is replaced.

    Raises:
        AlreadyExists: something listens there, or the path is not a socket.
        InvalidArgument: no such group.
        Unavailable: the kernel refuses.
    """
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody may connect between bind and chmod: the file is made without any right.
    before = os.umask(0o777)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise Unavailable(f"listen: {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    try:
        if group:
            os.chown(path, -1, _group_id(group))
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        path.unlink(missing_ok=True)
        raise
    return Listener(sock, f"unix://{path}", path=path)


def open_tcp(host: str, port: int, tls: ssl.SSLContext | None) -> Listener:
    """Listen on a TCP address. Whether that may be without TLS is the caller's decision.

    Raises:
        Unavailable: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Unavailable(f"listen: tcp://{host}:{port}: {error.strerror}") from error
    return Listener(sock, f"tcp://{host}:{sock.getsockname()[1]}", tls)


def activated_sockets(name: str = "") -> list[Listener]:
    """Return the sockets that systemd has opened for us (sd_listen_fds(3)).

    Args:
        name: take only the sockets of this FileDescriptorName, or with this number.

    Raises:
        InvalidArgument: ``fd://`` was asked for and nothing was passed.
    """
    count = os.environ.get("LISTEN_FDS", "0")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        raise InvalidArgument("listen: fd://: no socket was passed to this process")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(int(count)):
        fd = LISTEN_FDS_START + index
        label = names[index] if index < len(names) else ""
        if name and name not in (label, str(fd)):
            continue
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        found.append(Listener(sock, f"fd://{name}"))
    if not found:
        raise InvalidArgument(f"listen: fd://{name}: no such socket was passed")
    return found


def _clear_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise AlreadyExists(f"listen: {path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise Unavailable(f"listen: {path}: {error.strerror}") from error
    raise AlreadyExists(f"listen: {path}: another engine listens there")


def _group_id(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise InvalidArgument(f"listen: group {group}: no such group") from error
