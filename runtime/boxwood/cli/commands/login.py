"""`login`: prove to a registry who you are."""

from __future__ import annotations

import os
import sys

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HUB = "https://index.docker.io/v1/"


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Have the engine try the credentials; keeping them comes with the registry client."""
    password = values["password"]
    if values["password_stdin"]:
        password = sys.stdin.read().rstrip("\r\n")
    if not (values["username"] and password):
        if not os.isatty(0):
            raise CliError("Error: Cannot perform an interactive login from a non TTY device")
        raise CliError(f"{ctx.name}: give --username and --password-stdin")
    body = {
        "username": values["username"],
        "password": password,
        "serveraddress": args[0] if args else HUB,
    }
    ctx.out(ctx.client.post("/auth", body=body)["Status"])
    ctx.err("The credentials were not kept: storing them is not supported yet")
    return 0


COMMAND = Command(
    run,
    "Authenticate to a registry",
    "[OPTIONS] [SERVER]",
    (
        Flag("password", "string", "Password or token", "p"),
        Flag("password-stdin", "bool", "Read the password from stdin"),
        Flag("username", "string", "User name", "u"),
    ),
    most=1,
)
