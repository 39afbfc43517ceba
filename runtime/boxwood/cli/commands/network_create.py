"""`network create`: make a network."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.commands.volume_create import pairs
from boxwood.cli.errors import CliError

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
    """One entry a subnet, with the ranges, gateways and addresses that lie in it.

    What could not be told apart by the engine is refused here, in the words of Docker's client.
    """
    pools = [{"Subnet": subnet} for subnet in values["subnet"]]
    if len(pools) < max(len(values["ip_range"]), len(values["gateway"])):
        raise CliError("every ip-range or gateway must have a corresponding subnet")
    for at, pool in enumerate(pools):
        for other in pools[:at]:
            if _holds(other, pool["Subnet"]) or _holds(pool, other["Subnet"]):
                raise CliError("multiple overlapping subnet configuration is not supported")
    for text in values["ip_range"]:
        _cidr(text)
        _once(_home(pools, text, "range"), "IPRange", text, "ranges", "on")
    for text in values["gateway"]:
        _once(_home(pools, text, "gateway"), "Gateway", text, "gateways", "for")
    for name, text in pairs(values["aux_address"]).items():
        _home(pools, text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    return pools


def _cidr(text: str) -> Any:
    """The subnet that a text names. Raises CliError."""
    import ipaddress

    try:
        return ipaddress.ip_interface(text if "/" in text else "").network
    except ValueError:
        raise CliError(f"invalid CIDR address: {text}") from None


def _holds(pool: dict[str, Any], text: str) -> bool:
    """Whether an address, or the first of a subnet, lies in a pool. Raises CliError."""
    import ipaddress

    try:
        network = _cidr(pool["Subnet"])
    except CliError as error:
        raise CliError(f"invalid subnet: {error.text}") from None
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return False
    return address in network


def _home(pools: list[dict[str, Any]], text: str, what: str) -> dict[str, Any]:
    """The pool that an address lies in. Raises CliError."""
    for pool in pools:
        if _holds(pool, text):
            return pool
    raise CliError(f"no matching subnet for {what} {text}")


def _once(pool: dict[str, Any], key: str, text: str, what: str, joint: str) -> None:
    """Give a pool something that it has one of. Raises CliError."""
    if key in pool:
        raise CliError(
            f"cannot configure multiple {what} ({text}, {pool[key]}) {joint} the same subnet "
            f"({pool['Subnet']})"
        )
    pool[key] = text


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
