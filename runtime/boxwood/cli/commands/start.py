"""`start`: start containers that exist."""

from __future__ import annotations

from boxwood.cli import session
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.streams import Detached
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Start each container; with --attach stay with the one until it ends."""
    if values["attach"] or values["interactive"]:
        if len(args) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        return _attached(ctx, values, args[0])
    failed = [name for name in args if not _start_one(ctx, values, name)]
    if failed:
        raise CliError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_one(ctx: Context, values: Values, name: str) -> bool:
    query = {
        "checkpoint": values["checkpoint"],
        "checkpoint-dir": values["checkpoint_dir"],
    }
    try:
        ctx.client.post(f"/containers/{quote(name)}/start", query)
    except ApiError as error:
        ctx.err(f"Error response from daemon: {error.message}")
        return False
    ctx.out(name)
    return True


def _attached(ctx: Context, values: Values, name: str) -> int:
    client = ctx.client
    container: dict[str, Any] = client.get(f"/containers/{quote(name)}/json")
    ident, config = container["Id"], container["Config"]
    tty = bool(config["Tty"])
    stdin = values["interactive"] and bool(config["OpenStdin"])
    keys = session.detach_keys(ctx, values["detach_keys"])
    if not tty:
        session.forward_signals(ctx, ident, tty=tty)
    attach = session.send_attach(ctx, ident, values["detach_keys"], stdin=stdin)
    removed = bool(container["HostConfig"].get("AutoRemove"))
    waiting = session.send_wait(client, ident, "removed" if removed else "next-exit")
    stream = client.receive_hijack(attach)
    wait = client.receive(waiting)
    try:
        client.post(f"/containers/{ident}/start")
    except ApiError as error:
        text = f"Error response from daemon: {error.message}"
        raise CliError(text, session.start_error_code(error)) from error
    if tty:
        session.ResizeWatch(ctx, f"/containers/{ident}/resize").start()
    try:
        session.carry(stream, tty=tty, stdin=stdin, keys=keys)
    except Detached:
        return 0
    return session.exit_code(ctx, wait, ident)


COMMAND = Command(
    run,
    "Start one or more stopped containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (
        Flag("attach", "bool", "Attach stdout and stderr and forward signals", "a"),
        Flag("checkpoint", "string", "Restore from this checkpoint", hidden=True),
        Flag("checkpoint-dir", "string", "Folder of the checkpoints", hidden=True),
        Flag(
            "detach-keys",
            "string",
            "Keys that detach from the container, in place of ctrl-p,ctrl-q",
        ),
        Flag("interactive", "bool", "Attach the container's stdin", "i"),
    ),
    least=1,
)
