"""`network prune`: Remove all unused networks."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune, and say what went."""
    filters = list(values["filter"])
    if not values["force"]:
        confirm("This will remove all custom networks not used by at least one container.")
    prune(ctx, "/networks/prune", filters, "NetworksDeleted", "Deleted Networks")
    return 0


COMMAND = Command(
    run,
    "Remove all unused networks",
    "[OPTIONS]",
    (PRUNE_FILTER, FORCE),
    most=0,
)
