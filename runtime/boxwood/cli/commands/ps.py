"""`ps`: list containers."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.listing import chosen_format, filters_query, format_flag, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.client.client import Query

TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
HEADERS = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the containers, the newest first."""
    quiet = values["quiet"]
    if quiet and values["format"]:
        ctx.err("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    template = chosen_format(ctx, values["format"], "psFormat", quiet=quiet)
    size = values["size"]
    containers = ctx.client.get("/containers/json", _query(values, template))
    from boxwood.cli.format import container_row

    show(
        (container_row(item, no_trunc=values["no_trunc"], size=size) for item in containers),
        template=template,
        table=TABLE + ("\t{{.Size}}" if size else ""),
        headers=HEADERS,
        quiet="ID" if quiet else None,
    )
    return 0


def _query(values: Values, template: str | None) -> Query:
    limit = 1 if values["latest"] and values["last"] == -1 else values["last"]
    return {
        "all": values["all"] or limit > 0 or None,
        "limit": limit if limit > 0 else None,
        "size": values["size"] or _shows_size(template) or None,
        "filters": filters_query(values["filter"]),
    }


def _shows_size(template: str | None) -> bool:
    """Whether the template, which Docker tries before it asks, looks at sizes."""
    if not template:
        return False
    from boxwood.cli.format import container_template_needs_size
    from boxwood.cli.template import TemplateError

    try:
        return container_template_needs_size(template)
    except TemplateError as error:
        raise CliError(str(error)) from error


COMMAND = Command(
    run,
    "List containers",
    "[OPTIONS]",
    (
        Flag("all", "bool", "Show stopped containers too", "a"),
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("last", "int", "Show the last N created, whatever their state", "n", default=-1),
        Flag("latest", "bool", "Show the last created, whatever its state", "l"),
        Flag("no-trunc", "bool", "Shorten nothing"),
        Flag("quiet", "bool", "Show ids only", "q"),
        Flag("size", "bool", "Show what the containers take on disk", "s"),
    ),
    most=0,
)
