"""`volume inspect`: show volumes."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.inspection import FORMAT, fetcher, inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each volume."""
    return inspect(ctx, args, fetcher(ctx, "volume"), values["format"])


COMMAND = Command(
    run,
    "Display detailed information on one or more volumes",
    "[OPTIONS] VOLUME [VOLUME...]",
    (FORMAT,),
    least=1,
)
