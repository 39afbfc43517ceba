"""`container prune`: Remove all stopped containers."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune, say_reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune, and say what went."""
    filters = list(values["filter"])
    if not values["force"]:
        confirm("This will remove all stopped containers.")
    say_reclaimed(
        ctx, prune(ctx, "/containers/prune", filters, "ContainersDeleted", "Deleted Containers")
    )
    return 0


COMMAND = Command(
    run,
    "Remove all stopped containers",
    "[OPTIONS]",
    (PRUNE_FILTER, FORCE),
    most=0,
)
