"""`export`: write a container's tree to an archive."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.files import check_output, write_answer
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Write the archive to the file or to stdout."""
    check_output(values["output"], "export", "container")
    response = ctx.client.request("GET", f"/containers/{quote(args[0])}/export")
    write_answer(response, values["output"])
    return 0


COMMAND = Command(
    run,
    "Export a container's filesystem as a tar archive",
    "[OPTIONS] CONTAINER",
    (Flag("output", "string", "Write to this file, not to stdout", "o"),),
    least=1,
    most=1,
)
