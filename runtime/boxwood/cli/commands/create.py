"""`create`: make a container and leave it."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.creation import Creation
from boxwood.cli.runflags import CREATE_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Create the container and print its id."""
    ctx.out(Creation(ctx, values, args).create())
    return 0


COMMAND = Command(
    run,
    "Create a new container",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    CREATE_FLAGS,
    least=1,
    interspersed=False,
)
