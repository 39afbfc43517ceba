"""`history`: how an image came about."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import format_flag, show
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Size": "SIZE",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the image's layers, the newest first."""
    layers = ctx.client.get(
        f"/images/{quote(args[0])}/history", {"platform": values["platform"] or None}
    )
    from boxwood.cli.format import history_row

    human = values["human"]
    since = "{{.CreatedSince}}" if human else "{{.CreatedAt}}"
    show(
        (history_row(layer, no_trunc=values["no_trunc"], human=human) for layer in layers),
        template=values["format"],
        table="{{.ID}}\t" + since + "\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        headers=HEADERS,
        quiet="ID" if values["quiet"] and not values["format"] else None,
    )
    return 0


COMMAND = Command(
    run,
    "Show the history of an image",
    "[OPTIONS] IMAGE",
    (
        format_flag(),
        Flag("human", "bool", "Print sizes and dates for people", "H", default=True),
        Flag("no-trunc", "bool", "Shorten nothing"),
        Flag("platform", "string", "Show this platform's variant (OS[/ARCH[/VARIANT]])"),
        Flag("quiet", "bool", "Show ids only", "q"),
    ),
    least=1,
    most=1,
)
