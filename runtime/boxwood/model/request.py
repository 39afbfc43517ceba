"""Requests to the containers service that are no record, and their answers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from boxwood.model.config import ContainerConfig, HostConfig, NetworkingConfig
from boxwood.model.wire import Wire


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a create, in its three parts.

    ``host_config`` already has what the client's API version makes of it (defaults that differ by
    version); every other default is the service's.
    """

    config: ContainerConfig
    host_config: HostConfig = HostConfig()
    networking: NetworkingConfig = NetworkingConfig()


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What of a log to send, and in what form.

    Attributes:
        since: nanoseconds since the epoch, 0: from the beginning; ``until`` likewise.
        tail: records from the end, -1: all.
    """

    stdout: bool = False
    stderr: bool = False
    since: int = 0
    until: int = 0
    timestamps: bool = False
    details: bool = False
    follow: bool = False
    tail: int = -1


class AttachOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to attach: which streams, and whether the log comes first (``logs``)."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False
    logs: bool = False
    detach_keys: str | None = None
    """None: the container's or the daemon's default; empty: none at all."""


class ExecConfig(Wire):
    """Body of ``ContainerExec``."""

    user: str = msgspec.field(default="", name="User")
    privileged: bool = msgspec.field(default=False, name="Privileged")
    tty: bool = msgspec.field(default=False, name="Tty")
    console_size: tuple[int, int] | None = msgspec.field(default=None, name="ConsoleSize")
    attach_stdin: bool = msgspec.field(default=False, name="AttachStdin")
    attach_stdout: bool = msgspec.field(default=False, name="AttachStdout")
    attach_stderr: bool = msgspec.field(default=False, name="AttachStderr")
    detach_keys: str = msgspec.field(default="", name="DetachKeys")
    env: tuple[str, ...] | None = msgspec.field(default=None, name="Env")
    working_dir: str = msgspec.field(default="", name="WorkingDir")
    cmd: tuple[str, ...] | None = msgspec.field(default=None, name="Cmd")


class ExecStart(Wire):
    """Body of ``ExecStart``. ``console_size``: rows, columns."""

    detach: bool = msgspec.field(default=False, name="Detach")
    tty: bool = msgspec.field(default=False, name="Tty")
    console_size: tuple[int, int] | None = msgspec.field(default=None, name="ConsoleSize")


class WaitResult(msgspec.Struct, frozen=True):
    """How a container ended; ``error`` is empty unless it never really ran."""

    status_code: int
    error: str = ""


class Upgrade(Protocol):
    """A client's connection that can be taken over."""

    async def accept(self, content_type: str) -> tuple[int, bytes]:
        """Answer the request's headers and hand the socket over.

        Until this is called an error can still be an HTTP error.

        Returns:
            a descriptor that the caller owns from now on, and what was already read of it.
        """


RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
