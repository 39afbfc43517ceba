"""What a shim is told, and what it tells: plain values."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from boxwood_ext import protocol


class ShimConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a shim has to know of its container. Sizes are bytes."""

    id: str
    directory: Path
    """Where ``shim.sock`` is made (exec-root/containers/ID); exists."""
    exit_file: Path
    """``code signal finished_ns`` comes here; its directory exists and also takes the spill of
    slow clients."""
    log_path: Path | None = None
    log_attributes: dict[str, str] = {}
    """``attrs`` of each log entry (labels, env, tag)."""
    log_max_size: int = 0
    """Rotation starts at this size; 0: none."""
    log_max_files: int = 1
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    size: tuple[int, int] | None = None
    """Of the terminal at first: (rows, columns)."""
    durable: bool = True
    """fdatasync the exit file before the exit is told."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """An attached connection. The descriptor is handed over: never use it again."""

    fd: int
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    framed: bool = False
    """Docker's 8-byte headers (no terminal)."""
    preread: bytes = b""
    """What the daemon had already read of it, at most ``protocol.MAX_PREREAD`` bytes."""
    detach_keys: bytes = b"\x10\x11"
    """At most 16 bytes, only looked for on a terminal; empty: none."""

    @property
    def flags(self) -> int:
        """As the protocol has them."""
        return (
            self.stdin * protocol.CLIENT_STDIN
            | self.stdout * protocol.CLIENT_STDOUT
            | self.stderr * protocol.CLIENT_STDERR
            | self.framed * protocol.CLIENT_FRAMED
        )


class Held:
    """A client that the shim has, and sends nothing to before :meth:`release`.

    Attributes:
        moment: nanoseconds since the epoch: what the container wrote before it is in the log, what
            it writes later waits for the client.
    """

    def __init__(self, moment: int, pipe: int) -> None:
        """``pipe`` is the writing end of what the shim waits for; this object's from now on."""
        self.moment = moment
        self._pipe = pipe

    def release(self) -> None:
        """Let the shim send. Idempotent, and nothing happens to a client that has gone."""
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._pipe, b"\0")
            self.drop()

    def drop(self) -> None:
        """Have the shim hang up on a client that was not released. Idempotent."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


class ExitStatus(msgspec.Struct, frozen=True):
    """How a task ended."""

    code: int
    """128 + signal when a signal ended it."""
    signal: int = 0
    finished_at: int = 0
    """Nanoseconds since the epoch."""
    oom: bool = False
    """For who knows (the isolation driver); the shim leaves it False."""


def read_exit_file(path: Path) -> ExitStatus | None:
    """What a shim wrote there, or None: nothing, or not a status."""
    try:
        code, signal, finished = path.read_text("ascii").split()
        return ExitStatus(int(code), int(signal), int(finished))
    except (OSError, ValueError):
        return None
