"""`login`: prove to a registry who you are."""

from __future__ import annotations

import os
import sys

from boxwood.cli import logins
from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

KEPT = "WARNING! Your credentials are stored unencrypted in '{}'."


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Have the engine try the login, and keep it."""
    server = logins.server_of(args[0] if args else "")
    user, password = values["username"], values["password"]
    if values["password_stdin"]:
        if password:
            raise CliError("--password and --password-stdin are mutually exclusive")
        if not user:
            raise CliError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    if password and not values["password_stdin"]:
        ctx.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    known = {} if user else logins.find(ctx, server)
    if known:
        ctx.out("Authenticating with existing credentials...")
    body = known or {**_asked(user, password), "serveraddress": server}
    answer = ctx.client.post("/auth", body=body)
    token = answer.get("IdentityToken") or body.get("identitytoken", "")
    if known and token == known.get("identitytoken", ""):
        pass  # what is kept is what was shown
    elif logins.keep(ctx, server, body.get("username", ""), body.get("password", ""), token):
        ctx.err(KEPT.format(os.path.join(ctx.config_dir, "config.json")))
    ctx.out(answer["Status"])
    return 0


def _asked(user: str, password: str) -> dict[str, str]:
    """User and password; what is missing is asked for on a terminal."""
    if user and password:
        return {"username": user, "password": password}
    if not os.isatty(0):
        raise CliError("Error: Cannot perform an interactive login from a non TTY device")
    import getpass

    user = user or input("Username: ").strip()
    password = password or getpass.getpass("Password: ")
    if not user or not password:
        raise CliError("Error: a user name and a password are required")
    return {"username": user, "password": password}


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
