"""`image prune`: Remove unused images."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune, say_reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune, and say what went."""
    dangling = "false" if values["all"] else "true"
    filters = [*values["filter"], f"dangling={dangling}"]
    if not values["force"]:
        confirm("This will remove all dangling images.")
    say_reclaimed(ctx, prune(ctx, "/images/prune", filters, "ImagesDeleted", "Deleted Images"))
    return 0


COMMAND = Command(
    run,
    "Remove unused images",
    "[OPTIONS]",
    (Flag("all", "bool", "Remove every image that no container uses", "a"), PRUNE_FILTER, FORCE),
    most=0,
)
