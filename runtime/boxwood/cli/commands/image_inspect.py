"""`image inspect`: show images."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.inspection import FORMAT, fetcher, inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each image."""
    return inspect(
        ctx, args, fetcher(ctx, "image", {"platform": values["platform"] or None}), values["format"]
    )


COMMAND = Command(
    run,
    "Display detailed information on one or more images",
    "[OPTIONS] IMAGE [IMAGE...]",
    (FORMAT, Flag("platform", "string", "Show this platform's variant (OS[/ARCH[/VARIANT]])")),
    least=1,
)
