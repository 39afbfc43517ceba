"""A network driver whose networks are files: what the core does with a driver, without a link.

Named `toy` in this process by `ToyNetwork`, and in a daemon by `install_toy`: the module is then
installed as a stranger's package would be, so it imports nothing of the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.network import (
    NEW,
    OWN_ADDRESSES,
    Attachment,
    EndpointRequest,
    Namespace,
    NetworkDriver,
    NetworkSpec,
)
from boxwood.errors import Conflict, InvalidArgument, PermissionDenied

KNOWN = ("com.example.note", "com.example.fail", "com.docker.network.driver.mtu")


class ToyNetwork(NetworkDriver):
    """A file for each network, named by its id, with its name in it."""

    name = "toy"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self.made: set[str] = set()

    def namespace(self, request: EndpointRequest) -> Namespace:
        return Namespace(NEW)

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        for key in network.options:
            if key not in KNOWN:
                raise InvalidArgument(f"toy driver: unknown option {key}")
        families = [":" in pool.subnet for pool in network.pools]
        if len(set(families)) != len(families):
            raise PermissionDenied("toy driver doesn't support multiple subnets")
        return network

    async def create_network(self, network: NetworkSpec) -> None:
        if network.options.get("com.example.fail"):
            raise Conflict(f"create network: {network.name}: as asked")
        (self.root / network.id).write_text(network.name)
        self.made.add(network.id)

    async def remove_network(self, network: NetworkSpec) -> None:
        (self.root / network.id).unlink(missing_ok=True)
        self.made.discard(network.id)

    async def reconcile(self, wanted: Any) -> list[str]:
        done = []
        for path in sorted(self.root.iterdir()):
            if path.name not in self.made:
                done.append(f"removed network {path.read_text()}")
                path.unlink()
        return done

    def inspect_host(self, network: NetworkSpec) -> dict[str, object]:
        return {"file": str(self.root / network.id)}


class ToyOwn(ToyNetwork):
    """One that gives out addresses itself, of a subnet that only it knows; it makes no link."""

    name = "toyown"
    capabilities = frozenset({OWN_ADDRESSES})

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        asked = [address.partition("/")[0] for address in request.addresses]
        return Attachment(
            network=request.network,
            sandbox=request.sandbox,
            endpoint=request.endpoint,
            interface=request.interface,
            mac_address="02:00:00:00:00:09",
            addresses=tuple(f"{address}/24" for address in asked or ["10.99.7.9"]),
            gateways=("10.99.7.1",),
        )


@hookimpl
def network_driver(name: str, root: Path, options: Any) -> NetworkDriver | None:
    """Hand over the driver."""
    for kind in (ToyNetwork, ToyOwn):
        if name == kind.name:
            return kind(root)
    return None
