"""`exec`: run a further command in a running container."""

from __future__ import annotations

import os

from boxwood.cli import session, terminal
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError, UsageError
from boxwood.cli.streams import Detached
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Run the command; its exit code, or 0 at once with --detach."""
    body = _body(ctx, values, args[1:])
    path = f"/containers/{quote(args[0])}"
    if not values["detach"] and body["Tty"] and not os.isatty(session.STDIN):
        # A container that is not there is the better answer than a terminal that is not.
        ctx.client.get(f"{path}/json")
        session.check_tty(body["AttachStdin"], tty=True)
    keys = session.detach_keys(ctx, values["detach_keys"])
    ident = ctx.client.post(f"{path}/exec", body=body)["Id"]
    if values["detach"]:
        ctx.client.post(f"/exec/{ident}/start", body={"Detach": True, "Tty": body["Tty"]})
        return 0
    return _attached(ctx, ident, body, keys)


def _body(ctx: Context, values: Values, command: list[str]) -> dict[str, Any]:
    attach = not values["detach"]
    body: dict[str, Any] = {
        "Cmd": command,
        "User": values["user"] or "",
        "WorkingDir": values["workdir"] or "",
        "Privileged": values["privileged"],
        "Tty": values["tty"],
        "Env": _environment(values),
        "AttachStdin": attach and values["interactive"],
        "AttachStdout": attach,
        "AttachStderr": attach,
        "Detach": values["detach"],
        "DetachKeys": values["detach_keys"] or ctx.config.get("detachKeys") or "",
    }
    if attach and values["tty"] and (size := terminal.size(session.STDOUT)):
        body["ConsoleSize"] = list(size)
    return body


def _environment(values: Values) -> list[str]:
    """Files first, then the single settings. Raises UsageError, CliError."""
    if not (values["env"] or values["env_file"]):
        return []
    from boxwood.cli.opts import OptError, parse_env, parse_env_file

    try:
        found = [line for path in values["env_file"] for line in parse_env_file(path)]
    except OptError as error:
        raise CliError(str(error)) from error
    for text in values["env"]:
        try:
            found.append(parse_env(text, os.environ))
        except OptError as error:
            raise UsageError(
                f'invalid argument "{text}" for "-e, --env" flag: {error}', flag=True
            ) from error
    return found


def _attached(ctx: Context, ident: str, body: dict[str, Any], keys: bytes) -> int:
    client, tty = ctx.client, body["Tty"]
    start = {"Detach": False, "Tty": tty}
    if "ConsoleSize" in body:
        start["ConsoleSize"] = body["ConsoleSize"]
    stream = client.receive_hijack(client.send_hijack(f"/exec/{ident}/start", body=start))
    if tty and os.isatty(session.STDIN):
        session.ResizeWatch(ctx, f"/exec/{ident}/resize").start()
    try:
        session.carry(stream, tty=tty, stdin=body["AttachStdin"], keys=keys)
    except Detached:
        raise CliError("read escape sequence") from None
    return int(client.get(f"/exec/{ident}/json").get("ExitCode") or 0)


COMMAND = Command(
    run,
    "Execute a command in a running container",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    (
        Flag("detach", "bool", "Leave the command in the background", "d"),
        Flag(
            "detach-keys",
            "string",
            "Keys that detach from the container, in place of ctrl-p,ctrl-q",
        ),
        Flag("env", "list", "Set an environment variable (KEY=VALUE)", "e"),
        Flag("env-file", "list", "Read environment variables from a file"),
        Flag("interactive", "bool", "Keep stdin open, attached or not", "i"),
        Flag("privileged", "bool", "Give the command every capability"),
        Flag("tty", "bool", "Give the command a terminal", "t"),
        Flag("user", "string", "User to run as (NAME|UID[:GROUP|GID])", "u"),
        Flag("workdir", "string", "Working directory inside", "w"),
    ),
    least=2,
    interspersed=False,
)
