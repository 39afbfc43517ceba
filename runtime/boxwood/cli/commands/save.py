"""`save`: write images to an archive."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.load import platform_json
from boxwood.cli.files import check_output, write_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Write the archive to the file or to stdout."""
    check_output(values["output"], "save", "image")
    query = {"names": args, "platform": platform_json(values["platform"])}
    write_answer(ctx.client.request("GET", "/images/get", query=query), values["output"])
    return 0


COMMAND = Command(
    run,
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    "[OPTIONS] IMAGE [IMAGE...]",
    (
        Flag("output", "string", "Write to this file, not to stdout", "o"),
        Flag("platform", "string", "Save only this platform's variant (OS[/ARCH[/VARIANT]])"),
    ),
    least=1,
)
