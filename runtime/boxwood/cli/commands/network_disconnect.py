"""`network disconnect`: take a container off a network."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Disconnect; prints nothing."""
    body = {"Container": args[1], "Force": values["force"]}
    ctx.client.post(f"/networks/{quote(args[0])}/disconnect", body=body)
    return 0


COMMAND = Command(
    run,
    "Disconnect a container from a network",
    "[OPTIONS] NETWORK CONTAINER",
    (Flag("force", "bool", "Disconnect even what cannot be found", "f"),),
    least=2,
    most=2,
)
