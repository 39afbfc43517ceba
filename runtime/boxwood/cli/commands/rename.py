"""`rename`: give a container another name."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.errors import CliError
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Rename; prints nothing."""
    old, new = args[0].strip(), args[1].strip()
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        ctx.client.post(f"/containers/{quote(old)}/rename", {"name": new})
    except ApiError as error:
        raise CliError(
            f"Error response from daemon: {error.message}\n"
            f"Error: failed to rename container named {old}"
        ) from error
    return 0


COMMAND = Command(run, "Rename a container", "CONTAINER NEW_NAME", least=2, most=2)
