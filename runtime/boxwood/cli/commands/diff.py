"""`diff`: what a container has changed in its image's tree."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

# The API's kinds: modified, added, deleted.
_KINDS = "CAD"


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print a line for each path."""
    for change in ctx.client.get(f"/containers/{quote(args[0])}/changes") or ():
        ctx.out(f"{_KINDS[change['Kind']]} {change['Path']}")
    return 0


COMMAND = Command(
    run,
    "Inspect changes to files or directories on a container's filesystem",
    "CONTAINER",
    least=1,
    most=1,
)
