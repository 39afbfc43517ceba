"""`top`: the processes in a container."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the processes as a table."""
    query = {"ps_args": " ".join(args[1:]) or None}
    answer = ctx.client.get(f"/containers/{quote(args[0])}/top", query)
    from boxwood.cli.format import table_text

    ctx.out(table_text(answer["Titles"], answer["Processes"] or []).rstrip("\n"))
    return 0


COMMAND = Command(
    run,
    "Display the running processes of a container",
    "CONTAINER [ps OPTIONS]",
    least=1,
    interspersed=False,
)
