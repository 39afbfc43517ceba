"""`network rm`: remove networks."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.targets import each
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Remove each network, echoing its name."""
    force = values["force"]
    return each(
        ctx,
        args,
        "DELETE",
        lambda name: f"/networks/{quote(name)}",
        tolerate=lambda error: force and error.status == 404,
    )


COMMAND = Command(
    run,
    "Remove one or more networks",
    "NETWORK [NETWORK...]",
    (Flag("force", "bool", "A network that is not there is no failure", "f"),),
    least=1,
)
