"""`images`: list images."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import chosen_format, filters_query, format_flag, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "VIRTUAL SIZE",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the images, the newest first."""
    filters = list(values["filter"])
    if args:
        filters.append(f"reference={args[0]}")
    template = chosen_format(ctx, values["format"], "imagesFormat", quiet=values["quiet"])
    digests = values["digests"] or (template is not None and ".Digest" in template)
    query = {"all": values["all"] or None, "filters": filters_query(filters)}
    images = ctx.client.get("/images/json", query)
    from boxwood.cli.format import image_rows

    rows = [
        row
        for image in sorted(images, key=lambda item: item["Created"], reverse=True)
        for row in image_rows(image, no_trunc=values["no_trunc"], digests=digests)
    ]
    if values["quiet"] and not values["format"]:
        rows = list({row["ID"]: row for row in rows}.values())
    show(
        rows,
        template=template,
        table=_table(values["digests"]),
        headers=HEADERS,
        quiet="ID" if values["quiet"] and not values["format"] else None,
    )
    return 0


def _table(digests: bool) -> str:
    digest = "\t{{if .Digest}}{{.Digest}}{{else}}<none>{{end}}" if digests else ""
    return (
        "{{if .Repository}}{{.Repository}}{{else}}<none>{{end}}\t"
        "{{if .Tag}}{{.Tag}}{{else}}<none>{{end}}"
        f"{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
    )


COMMAND = Command(
    run,
    "List images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    (
        Flag("all", "bool", "Show intermediate images too", "a"),
        Flag("digests", "bool", "Show digests"),
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("no-trunc", "bool", "Shorten nothing"),
        Flag("quiet", "bool", "Show ids only", "q"),
    ),
    most=1,
)
