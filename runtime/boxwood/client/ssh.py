"""A connection through `ssh`: `boxwood system dial-stdio` over there passes it on.

Called as `docker` we have `docker system dial-stdio` run, as Docker does.
"""

from __future__ import annotations

import _socket
import shlex
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.client.address import Address


ENDING = 5.0
"""Seconds that ssh may take to end."""


class SshSocket(_socket.socket):
    """Our end of a pair whose other end `ssh` reads and writes."""

    __slots__ = ("_heard", "_ssh")

    def __init__(self, fd: int, ssh: subprocess.Popen[bytes]) -> None:
        super().__init__(fileno=fd)
        self._ssh = ssh
        self._heard = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As a socket's; raises OSError where ssh ends without a byte from over there."""
        try:
            data = super().recv(size, flags)
        except ConnectionResetError:  # it ended without having read what we sent
            data = b""
        if not data and not self._heard:
            raise self._ended()
        self._heard = True
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket's, likewise."""
        try:
            super().sendall(data, flags)
        except BrokenPipeError:
            if self._heard:
                raise
            raise self._ended() from None

    def _ended(self) -> OSError:
        try:
            return OSError(f"ssh ended with exit status {self._ssh.wait(ENDING)}")
        except subprocess.TimeoutExpired:
            return OSError("ssh closed the connection")

    def close(self) -> None:
        """Close it; ssh finds the end of its input, and ends. Idempotent."""
        super().close()
        try:
            self._ssh.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()


def command(address: Address) -> list[str]:
    """The command line: no terminal, no input read by anybody else."""
    words = ["ssh", "-T", "-o", "ConnectTimeout=30"]
    if address.user:
        words += ["-l", address.user]
    if address.port:
        words += ["-p", str(address.port)]
    there = [address.program, *(["-H", f"unix://{address.path}"] if address.path else [])]
    # One word to ssh is one line to the shell over there.
    return [*words, "--", address.host, shlex.join([*there, "system", "dial-stdio"])]


def connect(address: Address) -> SshSocket:
    """Start ssh, whose errors go to our stderr; raises OSError."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        ssh = subprocess.Popen(command(address), stdin=theirs.fileno(), stdout=theirs.fileno())
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return SshSocket(ours.detach(), ssh)
