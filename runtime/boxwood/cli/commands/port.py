"""`port`: where a container's ports are published, and who can reach them."""

from __future__ import annotations

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError, UsageError
from boxwood.cli.listing import chosen_format, format_flag, show
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


HEADERS = {
    "Container": "CONTAINER",
    "Port": "PORT",
    "Published": "PUBLISHED",
    "ReachedBy": "REACHED BY",
}


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print `80/tcp -> 0.0.0.0:8080` for all ports, or the addresses of one."""
    if values["exposed"]:
        return _exposed(ctx, values, args)
    if not args:
        raise UsageError("'boxwood port' requires a container, unless it is --exposed")
    container = ctx.client.get(f"/containers/{quote(args[0])}/json")
    ports = (container.get("NetworkSettings") or {}).get("Ports") or {}
    if len(args) > 1:
        return _one(ctx, args, ports)
    lines = [
        (_order(key), f"{key} -> {_address(binding)}")
        for key, bindings in ports.items()
        for binding in bindings or ()
    ]
    for _, line in sorted(lines):
        ctx.out(line)
    return 0


def _exposed(ctx: Context, values: Values, args: list[str]) -> int:
    """Print who can reach the ports of the containers that run, or of one."""
    containers = ctx.client.get("/containers/json") or ()
    if args:
        key = ctx.client.get(f"/containers/{quote(args[0])}/json")["Id"]
        containers = [one for one in containers if one["Id"] == key]
    rows = (row for one in containers for row in _rows(one))
    show(
        sorted(rows, key=lambda row: (row["Container"], _order(row["Port"]), row["Published"])),
        template=chosen_format(ctx, values["format"], "portsFormat", quiet=False),
        table="{{.Container}}\t{{.Port}}\t{{.Published}}\t{{.ReachedBy}}",
        headers=HEADERS,
        quiet=None,
    )
    return 0


def _rows(container: dict[str, Any]) -> Iterator[dict[str, str]]:
    networks = sorted((container.get("NetworkSettings") or {}).get("Networks") or {})
    neighbours = "containers in " + ", ".join(networks)
    for port in container.get("Ports") or ():
        number = port.get("PublicPort")
        host = {"HostIp": port.get("IP", ""), "HostPort": str(number)}
        yield {
            "Container": container["Names"][0].removeprefix("/"),
            "Port": f"{port['PrivatePort']}/{port['Type']}",
            "Published": _address(host) if number else "",
            "ReachedBy": f"{_reach(host['HostIp'])}, {neighbours}" if number else neighbours,
        }


def _reach(address: str) -> str:
    """Who reaches an address of this machine, as far as its firewall lets them."""
    if address.startswith("127.") or address == "::1":
        return "this machine"
    if address in ("0.0.0.0", "::"):
        return "everybody"
    return f"who reaches {address}"


def _one(ctx: Context, args: list[str], ports: dict[str, Any]) -> int:
    port, _, protocol = args[1].partition("/")
    bindings = ports.get(f"{port}/{protocol or 'tcp'}")
    if not bindings:
        raise CliError(f"Error: No public port '{args[1]}' published for {args[0]}")
    for binding in bindings:
        ctx.out(_address(binding))
    return 0


def _order(key: str) -> tuple[int, str]:
    number, _, protocol = key.partition("/")
    return (int(number) if number.isdigit() else 0, protocol)


def _address(binding: dict[str, str]) -> str:
    host = binding.get("HostIp", "")
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


COMMAND = Command(
    run,
    "List port mappings or a specific mapping for the container",
    "[OPTIONS] [CONTAINER [PRIVATE_PORT[/PROTO]]]",
    (
        Flag("exposed", "bool", "Show who can reach the ports of all containers, or of one"),
        format_flag(),
    ),
    most=2,
)
