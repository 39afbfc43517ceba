"""`unpause`: let paused containers go on."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Unpause each container, echoing its name."""
    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/unpause")


COMMAND = Command(
    run,
    "Unpause all processes within one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
)
