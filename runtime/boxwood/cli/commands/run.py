"""`run`: create a container, start it, and stay with it until it ends."""

from __future__ import annotations

import os

from boxwood.cli import session
from boxwood.cli.command import Command
from boxwood.cli.creation import Creation, failure
from boxwood.cli.errors import CliError
from boxwood.cli.runflags import RUN_FLAGS
from boxwood.cli.streams import Detached
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.client.client import Client, Response
    from boxwood.client.transport import Connection

# The longest wait for the removal of a container that did not start, in seconds.
_REMOVAL_TIMEOUT = 10.0


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Run the container; its exit code."""
    if values["detach"] and values["attach"]:
        raise CliError("conflicting options: cannot specify both --attach and --detach")
    creation = Creation(ctx, values, args)
    body = creation.body
    if values["detach"]:
        body.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    else:
        session.check_tty(bool(body.get("AttachStdin")), bool(body.get("Tty")))
        _add_console_size(body)
    session.detach_keys(ctx, values["detach_keys"])  # refused before anything is created
    container = creation.create()
    runner = _Run(
        ctx,
        container,
        body,
        sig_proxy=values["sig_proxy"],
        detach_keys=values["detach_keys"],
    )
    return runner.detached() if not runner.attached else runner.foreground()


def _add_console_size(body: dict[str, Any]) -> None:
    """The terminal's size goes with the request: the first line is drawn right."""
    from boxwood.cli import terminal

    if body.get("Tty") and (size := terminal.size(session.STDOUT)):
        body.setdefault("HostConfig", {})["ConsoleSize"] = list(size)


class _Run:
    """One created container on its way: attach, wait and start, in as few round trips as go."""

    def __init__(
        self,
        ctx: Context,
        container: str,
        body: dict[str, Any],
        *,
        sig_proxy: bool,
        detach_keys: str | None,
    ) -> None:
        self._ctx = ctx
        self._client: Client = ctx.client
        self._id = container
        self._chosen_keys = detach_keys
        self._keys = session.detach_keys(ctx, detach_keys)
        self._sig_proxy = sig_proxy
        self._tty = bool(body.get("Tty"))
        self._stdin = bool(body.get("AttachStdin"))
        self._stdout = bool(body.get("AttachStdout"))
        self._stderr = bool(body.get("AttachStderr"))
        self._remove = bool((body.get("HostConfig") or {}).get("AutoRemove"))
        self.attached = self._stdin or self._stdout or self._stderr

    def detached(self) -> int:
        """Start and print the id: of one that could not be started, too, for it is there."""
        try:
            self._start(None)
        finally:
            self._ctx.out(self._id)
        return 0

    def foreground(self) -> int:
        """Start, carry the streams, and answer with the exit code."""
        if self._sig_proxy:
            session.forward_signals(self._ctx, self._id, tty=self._tty)
        # Both requests are on their way before the first answer is awaited; each answers its
        # head as soon as it is registered, and only then is the container started.
        attach = self._send_attach()
        waiting = session.send_wait(
            self._client, self._id, "removed" if self._remove else "next-exit"
        )
        try:
            stream = self._client.receive_hijack(attach)
            wait = self._client.receive(waiting)
        except ApiError as error:
            raise failure(self._ctx, f"Error response from daemon: {error.message}") from error
        if not (self._stdout or self._stderr):
            self._ctx.out(self._id)
        self._start(waiting)
        return self._stay(stream, wait)

    def _stay(self, stream: Response, wait: Response) -> int:
        if self._tty and os.isatty(session.STDOUT):
            session.ResizeWatch(self._ctx, f"/containers/{quote(self._id)}/resize").start()
        try:
            session.carry(
                stream,
                tty=self._tty,
                stdin=self._stdin,
                stdout=self._stdout,
                stderr=self._stderr,
                keys=self._keys,
            )
        except Detached:
            return 0
        return session.exit_code(self._ctx, wait, self._id)

    def _send_attach(self) -> Connection:
        return session.send_attach(
            self._ctx,
            self._id,
            self._chosen_keys,
            stdin=self._stdin,
            stdout=self._stdout,
            stderr=self._stderr,
        )

    def _start(self, waiting: Connection | None) -> None:
        """Raises CliError, with the exit code that the engine's words stand for."""
        try:
            self._client.post(f"/containers/{quote(self._id)}/start")
        except ApiError as error:
            if self._remove and waiting is not None:
                _await_removal(waiting)
            text = f"Error response from daemon: {error.message}"
            raise failure(self._ctx, text, session.start_error_code(error)) from error


def _await_removal(waiting: Connection) -> None:
    """With --rm the engine removes what did not start; the name is free when we are gone."""
    from boxwood.client.errors import ProtocolError

    waiting.timeout(_REMOVAL_TIMEOUT)
    try:
        while waiting.fill():
            if b"StatusCode" in waiting.buffer:
                return
    except ProtocolError:
        return  # in time or not, the start's own error is what there is to say


COMMAND = Command(
    run,
    "Create and run a new container from an image",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    RUN_FLAGS,
    least=1,
    interspersed=False,
)
