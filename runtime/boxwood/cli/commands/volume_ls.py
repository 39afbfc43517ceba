"""`volume ls`: list volumes."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import chosen_format, filters_query, format_flag, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Status": "STATUS",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the volumes, sorted by name."""
    template = chosen_format(ctx, values["format"], "volumesFormat", quiet=values["quiet"])
    answer = ctx.client.get("/volumes", {"filters": filters_query(values["filter"])})
    for warning in answer.get("Warnings") or ():
        ctx.err(f"WARNING: {warning}")
    from boxwood.cli.format import volume_row

    volumes = sorted(answer.get("Volumes") or (), key=lambda volume: str(volume["Name"]))
    show(
        map(volume_row, volumes),
        template=template,
        table="{{.Driver}}\t{{.Name}}",
        headers=HEADERS,
        quiet="Name" if values["quiet"] and not values["format"] else None,
    )
    return 0


COMMAND = Command(
    run,
    "List volumes",
    "[OPTIONS]",
    (
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("quiet", "bool", "Show names only", "q"),
    ),
    most=0,
)
