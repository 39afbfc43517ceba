"""`kill`: send containers a signal."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Signal each container, echoing its name."""
    query = {"signal": values["signal"] or None}
    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/kill", query)


COMMAND = Command(
    run,
    "Kill one or more running containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (Flag("signal", "string", "Signal to send in place of KILL", "s"),),
    least=1,
)
