"""`logout`: forget a registry's login."""

from __future__ import annotations

from boxwood.cli import logins
from boxwood.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Remove what `login` kept."""
    server = logins.server_of(args[0] if args else "")
    if not logins.forget(ctx, server):
        ctx.out(f"Not logged in to {server}")
        return 0
    ctx.out(f"Removing login credentials for {server}")
    return 0


COMMAND = Command(run, "Log out from a registry", "[SERVER]", most=1)
