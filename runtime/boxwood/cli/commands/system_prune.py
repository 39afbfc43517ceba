"""`system prune`: remove all that is not used."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.pruning import FORCE, PRUNE_FILTER, confirm, prune, say_reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Ask, prune kind by kind, and say what went."""
    if not values["force"]:
        confirm(_warning(values))
    filters = list(values["filter"])
    dangling = f"dangling={'false' if values['all'] else 'true'}"
    size = prune(ctx, "/containers/prune", filters, "ContainersDeleted", "Deleted Containers")
    prune(ctx, "/networks/prune", filters, "NetworksDeleted", "Deleted Networks")
    if values["volumes"]:
        size += prune(ctx, "/volumes/prune", filters, "VolumesDeleted", "Deleted Volumes")
    size += prune(ctx, "/images/prune", [*filters, dangling], "ImagesDeleted", "Deleted Images")
    say_reclaimed(ctx, size)
    return 0


def _warning(values: Values) -> str:
    images = "images without at least one container associated to them"
    lines = [
        "This will remove:",
        "  - all stopped containers",
        "  - all networks not used by at least one container",
        *(["  - all anonymous volumes not used by at least one container"]
          if values["volumes"] else []),
        f"  - all {images if values['all'] else 'dangling images'}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


COMMAND = Command(
    run,
    "Remove unused data",
    "[OPTIONS]",
    (
        Flag("all", "bool", "Remove every image that no container uses", "a"),
        PRUNE_FILTER,
        FORCE,
        Flag("volumes", "bool", "Remove anonymous volumes too"),
    ),
    most=0,
)
