"""`network create`: make a network."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.volume_create import pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Create the network and print its id."""
    body: dict[str, Any] = {
        "Name": args[0],
        "Driver": values["driver"],
        "Scope": values["scope"] or "",
        "Internal": values["internal"],
        "Attachable": values["attachable"],
        "Ingress": values["ingress"],
        "ConfigOnly": values["config_only"],
        "Options": pairs(values["opt"]),
        "Labels": pairs(values["label"]),
        "IPAM": {
            "Driver": values["ipam_driver"],
            "Options": pairs(values["ipam_opt"]),
            "Config": _pools(values),
        },
    }
    if values["config_from"]:
        body["ConfigFrom"] = {"Network": values["config_from"]}
    for key, dest in (("EnableIPv4", "ipv4"), ("EnableIPv6", "ipv6")):
        if values[dest] is not None:
            body[key] = values[dest]
    ctx.out(ctx.client.post("/networks/create", body=body)["Id"])
    return 0


def _pools(values: Values) -> list[dict[str, Any]]:
    """One entry a subnet, with the ranges, gateways and addresses that lie in it."""
    import ipaddress

    pools: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in values["subnet"]]
    bits = [ipaddress.ip_network(pool["Subnet"], strict=False) for pool in pools]

    def home(text: str) -> dict[str, Any]:
        from boxwood.cli.errors import CliError

        address = ipaddress.ip_address(text.partition("/")[0])
        for pool, network in zip(pools, bits, strict=True):
            if address in network:
                return pool
        raise CliError(f"no matching subnet for {text}")

    for text in values["ip_range"]:
        home(text)["IPRange"] = text
    for text in values["gateway"]:
        home(text)["Gateway"] = text
    for key, text in pairs(values["aux_address"]).items():
        home(text).setdefault("AuxiliaryAddresses", {})[key] = text
    return pools


COMMAND = Command(
    run,
    "Create a network",
    "[OPTIONS] NETWORK",
    (
        Flag("attachable", "bool", "Containers may join by hand"),
        Flag("aux-address", "map", "Address that the driver leaves alone (NAME=ADDRESS)"),
        Flag("config-from", "string", "Network to take the configuration from"),
        Flag("config-only", "bool", "Make a configuration, not a network"),
        Flag("driver", "string", "Driver of the network", "d", default="bridge"),
        Flag("gateway", "strings", "Gateway of a subnet"),
        Flag("ingress", "bool", "Swarm's routing mesh", hidden=True),
        Flag("internal", "bool", "No way out of the network"),
        Flag("ip-range", "strings", "Part of a subnet that addresses are given from"),
        Flag("ipam-driver", "string", "Driver that gives addresses", default="default"),
        Flag("ipam-opt", "map", "Option of that driver (KEY=VALUE)"),
        Flag("ipv4", "bool", "Give IPv4 addresses (default true)", optional=True),
        Flag("ipv6", "bool", "Give IPv6 addresses", optional=True),
        Flag("label", "list", "Set a label (KEY=VALUE)"),
        Flag("opt", "map", "Option of the driver (KEY=VALUE)", "o"),
        Flag("scope", "string", "Reach of the network"),
        Flag("subnet", "strings", "Subnet in CIDR form"),
    ),
    least=1,
    most=1,
)
