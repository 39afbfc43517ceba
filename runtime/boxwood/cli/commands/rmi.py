"""`rmi`: remove images."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.load import platform_json
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Remove each image, printing what was untagged and deleted."""
    force = values["force"]
    query = {
        "force": force or None,
        "noprune": values["no_prune"] or None,
        "platforms": [platform_json(text) or "" for text in values["platform"]] or None,
    }

    def show(_name: str, answer: Any) -> None:
        for item in answer or ():
            key = "Deleted" if item.get("Deleted") else "Untagged"
            ctx.out(f"{key}: {item[key]}")

    return each(
        ctx,
        args,
        "DELETE",
        lambda name: f"/images/{quote(name)}",
        query,
        tolerate=lambda error: force and error.status == 404,
        show=show,
    )


COMMAND = Command(
    run,
    "Remove one or more images",
    "[OPTIONS] IMAGE [IMAGE...]",
    (
        Flag("force", "bool", "Remove even where a stopped container or several tags use it", "f"),
        Flag("no-prune", "bool", "Keep untagged parents"),
        Flag("platform", "strings", "Remove only this platform's variant (OS[/ARCH[/VARIANT]])"),
    ),
    least=1,
)
