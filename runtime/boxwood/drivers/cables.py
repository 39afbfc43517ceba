"""A base for network drivers that plug each sandbox in by a veth pair.

The base makes the pair, furnishes the sandbox's end, unmakes what failed, and clears up after a
crash by the host's ends: their aliases name the engine and the endpoint. Their names are the first
three letters of the driver's, a dash, and digits of the endpoint's id. A driver says in
:meth:`CableDriver.connect` what the host's end is plugged into.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from boxwood.drivers import links
from boxwood.drivers.network import (
    MULTIPLE,
    NEW,
    Attachment,
    EndpointRequest,
    Namespace,
    NetworkDriver,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import InvalidArgument
from boxwood_ext import net, rtnl

_DIGITS = 11
"""With the prefix one less than the kernel's limit for a name."""


class CableDriver(NetworkDriver):
    """A veth for each sandbox. IPv4 and networks without ports, unless a driver does more."""

    capabilities = frozenset({MULTIPLE})
    options: ClassVar[frozenset[str]] = frozenset()
    """Of a network, that the driver knows."""

    def __init__(self, root: Path) -> None:
        self._mark = f"{links.engine_tag(root)}:"

    @abstractmethod
    def connect(self, host: net.Netlink, cable: str, request: EndpointRequest) -> None:
        """Give the host's end what it needs. Runs in a thread; OSError and the like undo it all.

        Args:
            host: speaks to the host's namespace.
            cable: the name of the host's end, which is up.
        """

    def cable(self, endpoint: str) -> str:
        """Return the name of an endpoint's cable on the host."""
        return f"{self.name[:3]}-{endpoint[:_DIGITS]}"

    def namespace(self, request: EndpointRequest) -> Namespace:
        """Return a new namespace."""
        return Namespace(NEW)

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        """Refuse unknown options, IPv6 and internal networks.

        Raises:
            InvalidArgument
        """
        refused = sorted(network.options.keys() - self.options)
        refused += ["--internal"] * network.internal + ["--ipv6"] * network.ipv6
        if refused:
            raise InvalidArgument(
                f"create network: {network.name}: driver {self.name} has no {refused[0]}"
            )
        return network

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Plug the sandbox in, whole or not at all."""
        if request.options:
            raise InvalidArgument(f"attach: driver {self.name} has no {min(request.options)}")
        return await asyncio.to_thread(self._attach, request, netns)

    def _attach(self, request: EndpointRequest, netns: int) -> Attachment:
        cable, digits = self.cable(request.endpoint), request.endpoint
        mac = request.mac_address or "02:" + ":".join(digits[at : at + 2] for at in range(0, 10, 2))
        try:
            with net.Netlink() as host, net.Netlink(netns) as inside:
                # In one call: nobody dies between the link and its mark.
                veth = rtnl.veth(cable, request.interface, netns=netns, mac=mac, up=True)
                mark = rtnl.set_link(cable, alias=f"{self._mark}{request.endpoint}")
                try:
                    host.batch([veth, mark])
                except net.NetlinkError as error:
                    if error.index:
                        host.batch([rtnl.delete_link(cable)])
                    raise
                try:
                    self.connect(host, cable, request)
                    end = inside.index(request.interface)
                    links.furnish(netns, inside, end, request)
                    inside.batch(links.routes(request.gateways, end))
                except BaseException:
                    with suppress(net.NetlinkError):
                        host.batch([rtnl.delete_link(cable)])
                    raise
        except OSError as error:
            raise links.failed("attach", request.interface, error) from error
        except ValueError as error:
            raise InvalidArgument(f"attach: {request.interface}: {error}") from error
        return Attachment(
            network=request.network, sandbox=request.sandbox, endpoint=request.endpoint,
            interface=request.interface, mac_address=mac, addresses=request.addresses,
            gateways=request.gateways,
        )  # fmt: skip

    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        """Take the cable out of a sandbox that lives on; with a namespace it goes by itself."""
        if netns is not None:
            endpoint = attachment.endpoint
            await asyncio.to_thread(self._clear, lambda found: found == endpoint)

    async def update(
        self,
        attachment: Attachment,
        netns: int,
        *,
        gateways: tuple[str, ...],
        ports: tuple[PortRequest, ...],
    ) -> Attachment:
        """Change the default routes; there are no ports."""
        return await links.updated(self, attachment, netns, gateways, ports)

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Take out the cables that nobody wants."""
        keep = {attachment.endpoint for attachment in wanted}
        return await asyncio.to_thread(self._clear, lambda found: found not in keep)

    def _clear(self, unwanted: Callable[[str], bool]) -> list[str]:
        """Remove our cables whose endpoint is unwanted."""
        try:
            with net.Netlink() as host:
                gone = [
                    name
                    for name, link in links.find(host).items()
                    if link.kind == "veth"
                    and link.alias.startswith(self._mark)
                    and unwanted(link.alias.removeprefix(self._mark))
                ]
                for name in gone:
                    with suppress(net.NetlinkError):  # it went by itself
                        host.batch([rtnl.delete_link(name)])
        except OSError as error:
            raise links.failed("detach", self.name, error) from error
        return [f"link {name} of no endpoint is removed" for name in gone]
