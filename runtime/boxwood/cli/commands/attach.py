"""`attach`: join the streams of a running container."""

from __future__ import annotations

from boxwood.cli import session, terminal
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.streams import Detached
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Stay until the container ends; its exit code."""
    path = f"/containers/{quote(args[0])}"
    container = ctx.client.get(f"{path}/json")
    _check_state(container["State"])
    tty = bool(container["Config"]["Tty"])
    stdin = not values["no_stdin"] and bool(container["Config"]["OpenStdin"])
    session.check_tty(stdin, tty)
    keys = session.detach_keys(ctx, values["detach_keys"])
    if values["sig_proxy"] and not tty:
        session.forward_signals(ctx, container["Id"], tty=tty)
    waiting = session.send_wait(ctx.client, container["Id"], "not-running")
    attach = session.send_attach(ctx, container["Id"], values["detach_keys"], stdin=stdin)
    stream = ctx.client.receive_hijack(attach)
    if tty:
        _redraw(ctx, f"{path}/resize")
        session.ResizeWatch(ctx, f"{path}/resize").start()
    try:
        session.carry(stream, tty=tty, stdin=stdin, keys=keys)
    except Detached:
        raise CliError("read escape sequence") from None
    return session.exit_code(ctx, ctx.client.receive(waiting), container["Id"])


def _check_state(state: dict[str, Any]) -> None:
    if not state["Running"]:
        raise CliError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CliError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CliError("You cannot attach to a restarting container, wait until it is running")


def _redraw(ctx: Context, path: str) -> None:
    """Another size for a moment: full-screen programs draw themselves anew at the real one."""
    size = terminal.size(session.STDOUT)
    if size is not None:
        ctx.client.post(path, {"h": size[0] + 1, "w": size[1] + 1})


COMMAND = Command(
    run,
    "Attach local standard input, output, and error streams to a running container",
    "[OPTIONS] CONTAINER",
    (
        Flag(
            "detach-keys",
            "string",
            "Keys that detach from the container, in place of ctrl-p,ctrl-q",
        ),
        Flag("no-stdin", "bool", "Do not attach stdin"),
        Flag("sig-proxy", "bool", "Forward signals to the container's process", default=True),
    ),
    least=1,
    most=1,
)
