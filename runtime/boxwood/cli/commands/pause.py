"""`pause`: hold all processes of containers still."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Pause each container, echoing its name."""
    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/pause")


COMMAND = Command(
    run,
    "Pause all processes within one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
)
