"""The subnets of networks: what a client asked for is checked, what it left open is chosen."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument, PermissionDenied
from boxwood.model.network import IPAMConfig
from boxwood.model.wire import replace
from boxwood.services.networks import ranges
from boxwood.services.networks.addresses import edges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boxwood.services.networks.ranges import Address, PoolSource, Range, Subnet


def check(configs: Iterable[IPAMConfig], *, ipv6: bool = True) -> None:
    """Compare each address and range with its subnet; all that is wrong is said at once.

    ``ipv6`` False: subnets of that family are not looked at, as they are not used.

    Raises:
        InvalidArgument: in Docker's words.
    """
    wrong: list[str] = []
    for config in configs:
        try:
            interface = ipaddress.ip_interface(config.subnet)
        except ValueError:
            interface = None
        if interface is None or "/" not in config.subnet or "%" in config.subnet:
            wrong.append(f"invalid subnet {config.subnet}: invalid CIDR block notation")
            continue
        if interface.version == 6 and not ipv6:
            continue
        subnet = interface.network
        if interface.ip != subnet.network_address:
            wrong.append(f"invalid subnet {config.subnet}: it should be {subnet}")
        wrong += _range_errors(config.ip_range, subnet)
        for what, text in (
            (f"gateway {config.gateway}", config.gateway),
            *((f"auxiliary address {name}", at) for name, at in (config.auxiliary or {}).items()),
        ):
            if text and (error := _address_error(text, subnet)):
                wrong.append(f"invalid {what}: {error}")
    if wrong:
        raise InvalidArgument("invalid network config:\n" + "\n".join(wrong))


def _range_errors(text: str, subnet: Subnet) -> list[str]:
    if not text:
        return []
    start = f"invalid ip-range {text}: "
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or "/" not in text:
        return [f"{start}invalid CIDR block notation"]
    if interface.version != subnet.version:
        return [f"{start}parent subnet is an IPv{subnet.version} block"]
    found, wrong = interface.network, []
    if found.prefixlen < subnet.prefixlen:
        wrong.append(f"{start}CIDR block is bigger than its parent subnet {subnet}")
    if interface.ip != found.network_address:
        wrong.append(f"{start}it should be {found}")
    if not ranges.overlaps(subnet, [ranges.span(found)]):
        wrong.append(f"{start}parent subnet {subnet} doesn't contain ip-range")
    return wrong


def _address_error(text: str, subnet: Subnet) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    if address not in subnet:
        return f"parent subnet {subnet} doesn't contain this address"
    return ""


class Pools:
    """Which subnets are taken, and by which network."""

    def __init__(
        self,
        sources: Sequence[PoolSource],
        routes: Callable[[int], list[Range]] = ranges.host_routes,
    ) -> None:
        """``sources``: what to cut subnets from; ``routes``: of the host, by IP version."""
        self._sources = sources
        self._routes = routes
        self._taken: dict[str, tuple[Subnet, ...]] = {}

    def hold(self, network_id: str, configs: Iterable[IPAMConfig]) -> None:
        """Note what a network has, as its record says."""
        self._taken[network_id] = tuple(ipaddress.ip_network(config.subnet) for config in configs)

    def free(self, network_id: str) -> None:
        """A network's subnets may be given out again. Idempotent."""
        self._taken.pop(network_id, None)

    def plan(
        self, network_id: str, configs: Iterable[IPAMConfig], *, ipv4: bool, ipv6: bool
    ) -> tuple[IPAMConfig, ...]:
        """Return the subnets of a new network, each with a gateway, and hold them for it.

        A subnet of a family that the network does not have is left out; for a family that it has
        and that no subnet was asked for, one is chosen that overlaps nothing of ours and no
        route of the host.

        Raises:
            PermissionDenied: a subnet that was asked for is taken.
            InvalidArgument: there is none left to choose, or no address for the gateway.
        """
        found: list[IPAMConfig] = []
        for version, wanted in ((4, ipv4), (6, ipv6)):
            if not wanted:
                continue
            asked = [
                config
                for config in configs
                if ipaddress.ip_network(config.subnet).version == version
            ]
            found += [self._with_gateway(config) for config in self._free(asked, version)]
        self.hold(network_id, found)
        return tuple(found)

    def clashes(self, configs: Iterable[IPAMConfig]) -> list[str]:
        """Return the subnets that the host has routes into: legitimate, and often a mistake."""
        found = []
        for config in configs:
            subnet = ipaddress.ip_network(config.subnet)
            if ranges.overlaps(subnet, self._routes(subnet.version)):
                found.append(config.subnet)
        return found

    def _free(self, asked: list[IPAMConfig], version: int) -> list[IPAMConfig]:
        taken = [
            ranges.span(subnet)
            for subnets in self._taken.values()
            for subnet in subnets
            if subnet.version == version
        ]
        for config in asked:
            subnet = ipaddress.ip_network(config.subnet)
            if ranges.overlaps(subnet, taken):
                raise PermissionDenied(
                    "invalid pool request: Pool overlaps with other one on this address space"
                )
            taken.append(ranges.span(subnet))
        if asked:
            return asked
        chosen = ranges.first_free(self._sources, version, [*taken, *self._routes(version)])
        if chosen is None:
            raise InvalidArgument("all predefined address pools have been fully subnetted")
        return [IPAMConfig(subnet=str(chosen))]

    @staticmethod
    def _with_gateway(config: IPAMConfig) -> IPAMConfig:
        """Choose the first address of the range that addresses are given from."""
        if config.gateway:
            return config
        subnet = ipaddress.ip_network(config.subnet)
        within = ipaddress.ip_network(config.ip_range) if config.ip_range else subnet
        kept = edges(subnet) | {
            int(ipaddress.ip_address(text)) for text in (config.auxiliary or {}).values()
        }
        low, high = ranges.span(within)
        for number in range(low, min(high, low + len(kept)) + 1):
            if number not in kept:
                return replace(config, gateway=str(_address(number, subnet.version)))
        raise InvalidArgument(
            f"invalid network config:\ninvalid subnet {subnet}: no address left for the gateway"
        )


def _address(number: int, version: int) -> Address:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
