"""`port`: where a container's ports are published."""

from __future__ import annotations

from boxwood.cli.command import Command
from boxwood.cli.errors import CliError
from boxwood.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Print `80/tcp -> 0.0.0.0:8080` for all ports, or the addresses of one."""
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
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    least=1,
    most=2,
)
