"""`volume create`: make a volume."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Create the volume and print its name."""
    if values["name"] and args:
        raise CliError("conflicting options: cannot specify a volume-name through both --name "
                       "and as a positional arg")  # fmt: skip
    body = {
        "Name": args[0] if args else values["name"] or "",
        "Driver": values["driver"],
        "DriverOpts": pairs(values["opt"]),
        "Labels": pairs(values["label"]),
    }
    ctx.out(ctx.client.post("/volumes/create", body=body)["Name"])
    return 0


def pairs(entries: list[str]) -> dict[str, str]:
    """`KEY=VALUE` entries as a map; a bare key has an empty value."""
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}


COMMAND = Command(
    run,
    "Create a volume",
    "[OPTIONS] [VOLUME]",
    (
        Flag("driver", "string", "Driver of the volume", "d", default="local"),
        Flag("label", "list", "Set a label (KEY=VALUE)"),
        Flag("name", "string", "Name of the volume", hidden=True),
        Flag("opt", "map", "Option of the driver (KEY=VALUE)", "o"),
    ),
    most=1,
)
