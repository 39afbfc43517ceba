"""`volume prune`: Remove unused local volumes."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune, say_reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune, and say what went."""
    filters = list(values["filter"]) + (["all=1"] if values["all"] else [])
    if not values["force"]:
        confirm("This will remove anonymous local volumes not used by at least one container.")
    say_reclaimed(ctx, prune(ctx, "/volumes/prune", filters, "VolumesDeleted", "Deleted Volumes"))
    return 0


COMMAND = Command(
    run,
    "Remove unused local volumes",
    "[OPTIONS]",
    (Flag("all", "bool", "Remove named volumes too", "a"), PRUNE_FILTER, FORCE),
    most=0,
)
