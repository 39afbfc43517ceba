"""`stop`: ask containers to end, and kill those that do not."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

STOP_FLAGS = (
    Flag("signal", "string", "Signal that asks the container to end", "s"),
    Flag(
        "timeout", "int", "Seconds to wait before it is killed; -1 for ever", "t", aliases=("time",)
    ),
)


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Stop each container, echoing its name."""
    query = {"signal": values["signal"] or None, "t": values["timeout"]}
    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/stop", query)


COMMAND = Command(
    run,
    "Stop one or more running containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    STOP_FLAGS,
    least=1,
)
