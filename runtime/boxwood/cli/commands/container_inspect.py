"""`container inspect`: show containers."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.inspection import FORMAT, fetcher, inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each container."""
    return inspect(
        ctx, args, fetcher(ctx, "container", {"size": values["size"] or None}), values["format"]
    )


COMMAND = Command(
    run,
    "Display detailed information on one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (FORMAT, Flag("size", "bool", "Show the sizes too", "s")),
    least=1,
)
