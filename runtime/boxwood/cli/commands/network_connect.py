"""`network connect`: connect a container to a network."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.volume_create import pairs
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Connect; prints nothing."""
    endpoint: dict[str, Any] = {
        "Aliases": values["alias"] or None,
        "Links": values["link"] or None,
        "DriverOpts": pairs(values["driver_opt"]),
        "IPAMConfig": {
            "IPv4Address": values["ip"] or "",
            "IPv6Address": values["ip6"] or "",
            "LinkLocalIPs": values["link_local_ip"],
        },
    }
    if values["gw_priority"] is not None:
        endpoint["GwPriority"] = values["gw_priority"]
    body = {"Container": args[1], "EndpointConfig": endpoint}
    ctx.client.post(f"/networks/{quote(args[0])}/connect", body=body)
    return 0


COMMAND = Command(
    run,
    "Connect a container to a network",
    "[OPTIONS] NETWORK CONTAINER",
    (
        Flag("alias", "strings", "Further name of the container in the network"),
        Flag("driver-opt", "strings", "Option of the driver (KEY=VALUE)"),
        Flag("gw-priority", "int", "The highest provides the default gateway"),
        Flag("ip", "string", "IPv4 address in the network"),
        Flag("ip6", "string", "IPv6 address in the network"),
        Flag("link", "list", "Make another container known by name (CONTAINER:ALIAS)"),
        Flag("link-local-ip", "strings", "Link-local address"),
    ),
    least=2,
    most=2,
)
