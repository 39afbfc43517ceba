"""`logout`: forget a registry's credentials."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.commands.login import HUB
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Credentials are not stored yet, so there are none to forget unless Docker stored them."""
    server = args[0] if args else HUB
    if server in (ctx.config.get("auths") or {}):
        raise CliError(f"{ctx.name}: {server}: not supported yet: Docker stored these credentials")
    ctx.out(f"Not logged in to {server}")
    return 0


COMMAND = Command(run, "Log out from a registry", "[SERVER]", most=1)
