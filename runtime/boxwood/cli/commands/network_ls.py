"""`network ls`: list networks."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.listing import chosen_format, filters_query, format_flag, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwood.cli.command import Values
    from boxwood.cli.context import Context

HEADERS = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print the networks, sorted by name."""
    template = chosen_format(ctx, values["format"], "networksFormat", quiet=values["quiet"])
    networks = ctx.client.get("/networks", {"filters": filters_query(values["filter"])})
    from boxwood.cli.format import network_row

    ordered = sorted(networks or (), key=lambda network: str(network["Name"]))
    show(
        (network_row(network, no_trunc=values["no_trunc"]) for network in ordered),
        template=template,
        table="{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        headers=HEADERS,
        quiet="ID" if values["quiet"] and not values["format"] else None,
    )
    return 0


COMMAND = Command(
    run,
    "List networks",
    "[OPTIONS]",
    (
        Flag("filter", "filter", "Show only what meets a condition (KEY=VALUE)", "f"),
        format_flag(),
        Flag("no-trunc", "bool", "Shorten nothing"),
        Flag("quiet", "bool", "Show ids only", "q"),
    ),
    most=0,
)
