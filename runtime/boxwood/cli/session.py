"""An attached container or exec: streams, window size, signals, exit code."""

from __future__ import annotations

import os
import sys

from boxwood.cli import streams, terminal
from boxwood.cli.errors import CliError
from boxwood.client.client import quote
from boxwood.client.errors import ApiError, ClientError, ConnectError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from boxwood.cli.context import Context
    from boxwood.client.client import Client, Query, Response
    from boxwood.client.transport import Connection
else:
    # The module behind `signal`, without `enum`, which costs 5 ms to import.
    import _signal

STDIN, STDOUT, STDERR = 0, 1, 2
# Not to be forwarded: the kernel does not let us catch the first two; then come those that tell us
# something of ourselves (a background process that is refused its terminal would be refused again
# for ever if it did not stop); the last four are CPython's own mistakes.
_KEPT = frozenset(
    (
        _signal.SIGKILL,
        _signal.SIGSTOP,
        _signal.SIGCHLD,
        _signal.SIGPIPE,
        _signal.SIGURG,
        _signal.SIGTTIN,
        _signal.SIGTTOU,
        _signal.SIGSEGV,
        _signal.SIGBUS,
        _signal.SIGFPE,
        _signal.SIGILL,
    )
)
# A resize may come before the process has its terminal: as often, this far apart, in seconds.
_RESIZE_TRIES = 5
_RESIZE_PAUSE = 0.01
# How long a signal's own request may take, in seconds: the handler holds up the streams.
_SIGNAL_TIMEOUT = 10.0
# How long an engine that went away in the middle of a session may take to come back, and how
# often it is asked, in seconds: a restart takes one or two.
_RETURN_TIMEOUT = 30.0
_RETURN_POLL = 0.05
# After so many interrupts that could not be forwarded we give up the session.
_PATIENCE = 3


def detach_keys(ctx: Context, chosen: str | None) -> bytes:
    """The keys that detach: the flag, the configuration, ctrl-p ctrl-q. Raises CliError."""
    text = chosen or ctx.config.get("detachKeys") or terminal.DEFAULT_DETACH_KEYS
    return terminal.parse_detach_keys(text)


def check_tty(attach_stdin: bool, tty: bool) -> None:
    """Refuse a terminal inside where there is none outside. Raises CliError."""
    if tty and attach_stdin and not os.isatty(STDIN):
        raise CliError("the input device is not a TTY")


def carry(
    response: Response,
    *,
    tty: bool,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    keys: bytes = b"",
) -> None:
    """Carry a hijacked connection to its end. Raises Detached, ProtocolError, CliError.

    With `tty` the output is not framed and the user's terminal is raw meanwhile.
    """
    sys.stdout.flush()
    out, err = (STDOUT if stdout else None), (STDERR if stderr else None)
    sink = streams.Verbatim(out) if tty else streams.Demultiplexer(out, err)
    relay = streams.Relay(
        response.connection.duplex(),
        sink,
        stdin=STDIN if stdin else None,
        detach_keys=keys if tty else b"",
    )
    try:
        if tty and stdin:
            with terminal.RawTerminal(STDIN):
                relay.run()
        else:
            relay.run()
    finally:
        response.close()


class ResizeWatch:
    """Tells the engine the terminal's size, now and at each SIGWINCH.

    `path` is the resize route of a container or an exec. A request that fails is tried again a
    few times at the beginning, as the process may not be there yet, and is then left: a wrong
    size is no reason to end a session.
    """

    def __init__(self, ctx: Context, path: str) -> None:
        self._ctx = ctx
        self._path = path
        self._again = False

    def start(self) -> None:
        """Begin: the size now, then every change."""
        _signal.signal(_signal.SIGWINCH, lambda *_: self._send())
        for _ in range(_RESIZE_TRIES):
            if self._send():
                return
            import time

            time.sleep(_RESIZE_PAUSE)

    def _send(self) -> bool:
        now = terminal.size(STDOUT) or terminal.size(STDIN)
        if now is None:
            return True
        return _quietly(self._ctx, self._path, {"h": now[0], "w": now[1]})


def forward_signals(ctx: Context, container: str, *, tty: bool) -> None:
    """From now on every signal that can be caught goes to the container's first process.

    With a terminal, SIGWINCH is left to `ResizeWatch`.
    """
    path = f"/containers/{quote(container)}/kill"

    failed = 0

    def forward(number: int, _frame: object) -> None:
        nonlocal failed
        if _quietly(ctx, path, {"signal": str(number)}):
            failed = 0
        elif number in (_signal.SIGINT, _signal.SIGTERM):
            failed += 1
        if failed >= _PATIENCE:
            ctx.err(f"got {failed} SIGTERM/SIGINTs, forcefully exiting")
            os._exit(1)

    for number in _signal.valid_signals():
        # 32 and 33 are the C library's own; a child of ours that stops is not the container's.
        if number in _KEPT or (tty and number == _signal.SIGWINCH):
            continue
        _signal.signal(number, forward)


def _quietly(ctx: Context, path: str, query: Query) -> bool:
    """A POST on a connection of its own whose failure nobody waits for; whether it went well.

    Called from signal handlers: the shared client may be in the middle of something.
    """
    client = ctx.new_client()
    try:
        connection = client.send("POST", path, query=query)
        connection.timeout(_SIGNAL_TIMEOUT)
        client.receive(connection).read()
    except ClientError as error:
        if ctx.options["debug"]:
            ctx.err(f"debug: {path}: {error}")
        return False
    else:
        return True
    finally:
        client.close()


def send_attach(
    ctx: Context,
    container: str,
    chosen_keys: str | None,
    *,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
) -> Connection:
    """Ask for the container's streams; `receive_hijack` of the client takes the answer."""
    query: Query = {
        "stream": True,
        "stdin": stdin or None,
        "stdout": stdout or None,
        "stderr": stderr or None,
        "detachKeys": chosen_keys or ctx.config.get("detachKeys"),
    }
    return ctx.client.send_hijack(f"/containers/{quote(container)}/attach", query)


def send_wait(client: Client, container: str, condition: str) -> Connection:
    """Ask for a container's end and return the connection: `receive` shows it is registered."""
    path = f"/containers/{quote(container)}/wait"
    return client.send("POST", path, query={"condition": condition})


def exit_code(ctx: Context, response: Response, container: str) -> int:
    """The exit code that a wait answers. Raises CliError for an error in place of it.

    An engine that went away meanwhile may be back in a moment, its containers alive: it is asked
    again for a while.
    """
    try:
        result = response.json()
    except ProtocolError:
        result = _wait_again(ctx, container)
    result = result or {}
    error = result.get("Error")
    if error and error.get("Message"):
        raise CliError(f"Error waiting for container: {error['Message']}", 125)
    return int(result.get("StatusCode", 0)) & 0xFF


def _wait_again(ctx: Context, container: str) -> Any:
    import time

    deadline = time.monotonic() + _RETURN_TIMEOUT
    while True:
        try:
            return ctx.new_client().post(f"/containers/{quote(container)}/wait")
        except (ConnectError, ProtocolError):
            if time.monotonic() > deadline:
                raise
        time.sleep(_RETURN_POLL)


def start_error_code(error: ApiError) -> int:
    """Docker's exit code for a container that did not start, which it reads from the words."""
    text = error.message
    if any(words in text for words in _NOT_FOUND):
        return 127
    if any(words in text for words in _NOT_EXECUTABLE):
        return 126
    return 125


_NOT_FOUND = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
)
_NOT_EXECUTABLE = ("permission denied", "is a directory")
