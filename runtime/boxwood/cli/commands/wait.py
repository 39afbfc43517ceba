"""`wait`: wait until containers end, and print their exit codes."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print each container's exit code in the order of the arguments."""

    def show(_name: str, answer: Any) -> None:
        ctx.out(str(answer["StatusCode"]))

    return each(ctx, args, "POST", lambda name: f"/containers/{quote(name)}/wait", show=show)


COMMAND = Command(
    run,
    "Block until one or more containers stop, then print their exit codes",
    "CONTAINER [CONTAINER...]",
    least=1,
)
