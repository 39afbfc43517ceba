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
    query = {"verbose": values["verbose"] or None, "host": values["host"] or None}
    return inspect(ctx, args, fetcher(ctx, "network", query), values["format"])


COMMAND = Command(
    run,
    "Display detailed information on one or more networks",
    "[OPTIONS] NETWORK [NETWORK...]",
    (
        FORMAT,
        Flag("host", "bool", "Show what is on the host too: links, addresses, rules"),
        Flag("verbose", "bool", "Show more, for diagnosis", "v"),
    ),
    least=1,
)
