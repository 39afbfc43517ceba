"""`network inspect`: show networks."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.inspection import FORMAT, fetcher, inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each network."""
    return inspect(
        ctx, args, fetcher(ctx, "network", {"verbose": values["verbose"] or None}), values["format"]
    )


COMMAND = Command(
    run,
    "Display detailed information on one or more networks",
    "[OPTIONS] NETWORK [NETWORK...]",
    (FORMAT, Flag("verbose", "bool", "Show more, for diagnosis", "v")),
    least=1,
)
