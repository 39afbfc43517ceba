"""`restart`: stop containers and start them again."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.commands.stop import STOP_FLAGS
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Restart each container, echoing its name."""
    query = {"signal": values["signal"] or None, "t": values["timeout"]}
    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/restart", query)


COMMAND = Command(
    run,
    "Restart one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    STOP_FLAGS,
    least=1,
)
