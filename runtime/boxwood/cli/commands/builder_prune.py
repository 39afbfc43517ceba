"""`builder prune`: remove what builds keep."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune, say_reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune, and say what went."""
    if not values["force"]:
        confirm("This will remove all dangling build cache.")
    path = "/build/prune?all=1" if values["all"] else "/build/prune"
    say_reclaimed(ctx, prune(ctx, path, values["filter"], "CachesDeleted", "Deleted build cache"))
    return 0


COMMAND = Command(
    run,
    "Remove build cache",
    "[OPTIONS]",
    (Flag("all", "bool", "Remove all of it", "a"), PRUNE_FILTER, FORCE),
    most=0,
)
