"""`load`: bring in images from an archive."""

from __future__ import annotations

import os

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.files import STDIN, STDOUT, read_pieces
from boxwood.cli.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Send the archive and print what was loaded."""
    if not values["input"] and os.isatty(STDIN):
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = values["quiet"] or not os.isatty(STDOUT)
    query = {"quiet": quiet, "platform": platform_json(values["platform"])}
    response = ctx.client.request(
        "POST", "/images/load", query=query, data=read_pieces(values["input"])
    )
    if response.headers.get("content-type", "").startswith("application/json"):
        show(response.lines(), STDOUT)
    else:
        ctx.out(response.read().decode("utf-8", "replace").rstrip("\n"))
    return 0


def platform_json(text: str | None) -> str | None:
    """`linux/arm64/v8` as the JSON object that the API takes."""
    if not text or "/" not in text:
        return text or None  # the engine knows what a word alone stands for
    from boxwood.client import jsonwire

    names = ("os", "architecture", "variant")
    return jsonwire.dumps(dict(zip(names, text.split("/"), strict=False))).decode()


COMMAND = Command(
    run,
    "Load an image from a tar archive or STDIN",
    "[OPTIONS]",
    (
        Flag("input", "string", "Read the archive from this file, not from stdin", "i"),
        Flag("platform", "string", "Load only this platform's variant (OS[/ARCH[/VARIANT]])"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    most=0,
)
