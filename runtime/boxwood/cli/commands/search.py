"""`search`: look for images in Docker Hub, or in the registry that the term begins with."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import filters_query, format_flag, show
from boxwood.cli.progress import auth_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "Description": "DESCRIPTION",
    "IsOfficial": "OFFICIAL",
    "Name": "NAME",
    "StarCount": "STARS",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print what the engine found."""
    query = {
        "term": args[0],
        "limit": values["limit"] or None,
        "filters": filters_query(values["filter"]),
    }
    headers = [("X-Registry-Auth", auth_header(ctx, args[0]))]
    found = ctx.client.request("GET", "/images/search", query=query, headers=headers).json() or []
    rows = [
        {
            "Description": _described(item["description"], values["no_trunc"]),
            "IsOfficial": "[OK]" if item["is_official"] else "",
            "Name": item["name"],
            "StarCount": str(item["star_count"]),
        }
        for item in found
    ]
    table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
    show(rows, template=values["format"], table=table, headers=HEADERS)
    return 0


def _described(text: str, whole: bool) -> str:
    """One line, with its control characters gone: it comes from a stranger."""
    from boxwood.cli.format import ellipsis

    line = "".join(char if char.isprintable() else " " for char in text)
    return line if whole else ellipsis(line, 45)


COMMAND = Command(
    run,
    "Search Docker Hub for images",
    "[OPTIONS] TERM",
    (
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("limit", "int", "Show at most this many"),
        Flag("no-trunc", "bool", "Shorten nothing"),
    ),
    least=1,
    most=1,
)
