"""The places of one sandbox in its networks: their order, interfaces, default routes and ports."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxwood.drivers.network import OWN_ADDRESSES, PUBLISHES_PORTS, EndpointRequest, NetworkDriver
from boxwood.errors import ResourceExhausted
from boxwood.model.network import WAY_OUT
from boxwood.model.wire import replace
from boxwood.services.networks.publishing import requests_of
from boxwood_ext import net

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boxwood.drivers.network import NetworkSpec, Pool
    from boxwood.model.config import EndpointSettings
    from boxwood.model.container import Container
    from boxwood.model.endpoint import Attachment, PortRequest

BINDING = "com.docker.network.bridge.host_binding_ipv4"
"""Option of a network: the host's address of a published port that names none."""
ANY = "0.0.0.0"
"""What that option has when nobody chose: the IPv6 addresses are meant too."""
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
"""Options of an endpoint that are the core's: a driver does not see them."""
_PREFIX = "com.docker.network.container_iface_prefix"


@dataclass(slots=True)
class Place:
    """One network of a sandbox: what it asks for there, and what it has."""

    name: str
    asked: EndpointSettings
    spec: NetworkSpec
    driver: NetworkDriver
    endpoint: str
    interface: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    attachment: Attachment | None = None
    named: bool = False
    """Whether the engine serves names in it."""

    @property
    def own(self) -> bool:
        """Whether the driver gives out addresses and gateways itself."""
        return OWN_ADDRESSES in self.driver.capabilities

    @property
    def known_gateways(self) -> tuple[str, ...]:
        """The gateways of its network that it could use, whether its default route or not."""
        if self.own:
            return self.attachment.gateways if self.attachment else ()
        if self.spec.internal:
            return ()
        own = families(self.addresses)
        gateways = [_way_out(pool) for pool in self.spec.pools if pool.gateway]
        return tuple(one for one in gateways if ipaddress.ip_address(one).version in own)

    @property
    def publishes(self) -> bool:
        """Whether ports can be published in it."""
        return PUBLISHES_PORTS in self.driver.capabilities and not self.spec.internal

    @property
    def changed(self) -> bool:
        """Whether its attachment has other default routes or ports than it is to have."""
        now = self.attachment
        return now is not None and (
            now.gateways != self.gateways or set(now.ports) != set(self.ports)
        )

    @property
    def link_local(self) -> tuple[str, ...]:
        """The further addresses that the client gave it, in CIDR form."""
        asked = self.asked.ipam_config
        found = (ipaddress.ip_address(one) for one in (asked and asked.link_local_ips) or ())
        return tuple(f"{one}/{one.max_prefixlen}" for one in found)

    def request(self, container: Container) -> EndpointRequest:
        """Return what the driver is asked for."""
        options = {
            name: value
            for name, value in (self.asked.driver_opts or {}).items()
            if name not in (IFNAME, SYSCTLS)
        }
        return EndpointRequest(
            sandbox=container.id,
            network=self.spec.id,
            endpoint=self.endpoint,
            mode=container.host_config.network_mode,
            interface=self.interface,
            mac_address=self.asked.mac_address,
            addresses=self.addresses + self.link_local,
            gateways=self.gateways,
            aliases=self.asked.aliases or (),
            ports=self.ports,
            options=options,
        )


def attaches(driver: NetworkDriver) -> bool:
    """Whether a driver makes anything in a sandbox's namespace."""
    return type(driver).attach is not NetworkDriver.attach


def _way_out(pool: Pool) -> str:
    return pool.auxiliary.get(WAY_OUT[ipaddress.ip_address(pool.gateway).version], pool.gateway)


def ordered(networks: Mapping[str, EndpointSettings]) -> list[tuple[str, EndpointSettings]]:
    """Return networks in the order in which they are attached and give the default route."""
    return sorted(networks.items(), key=lambda item: (-item[1].gw_priority, item[0]))


def name_interfaces(places: Iterable[Place]) -> None:
    """Give each place that has none an interface name that is free."""
    taken = {place.interface for place in places if place.interface}
    for place in places:
        if place.interface:
            continue
        wanted = (place.asked.driver_opts or {}).get(IFNAME, "")
        prefix = place.spec.options.get(_PREFIX, "eth")
        number = 0
        while not wanted or wanted in taken:
            wanted = f"{prefix}{number}"
            number += 1
        place.interface = wanted
        taken.add(wanted)


def share(places: Sequence[Place], ports: Iterable[PortRequest]) -> None:
    """Say through which place the default routes go and which one publishes which port.

    Of each family the first place, in their order, that has a gateway; an internal network has
    none. Ports are published where the default route of their family is, those of IPv6 with the
    others when there is none of its own.
    """
    for place in places:
        place.gateways, place.ports = (), ()
    found = {version: _leading(places, version) for version in (4, 6)}
    for leading in found.values():
        if leading is not None:
            leading[0].gateways += (leading[1],)
    publishing = {
        version: leading[0]
        for version, leading in found.items()
        if leading is not None and leading[0].publishes
    }
    if not publishing:  # a gateway that the driver chooses is not known before
        own = [place for place in places if place.own and place.publishes]
        publishing = dict(zip((4,), own, strict=False))
    if not publishing:
        return
    for port in ports:
        version = ipaddress.ip_address(port.host_ip).version
        place = publishing.get(version) or next(iter(publishing.values()))
        place.ports += (port,)


def _leading(places: Sequence[Place], version: int) -> tuple[Place, str] | None:
    """Return the place that has the default route of a family, and its gateway."""
    for place in places:
        for gateway in place.known_gateways:
            if ipaddress.ip_address(gateway).version == version:
                return place, gateway
    return None


def families(addresses: Iterable[str]) -> set[int]:
    """Return the IP versions of addresses in CIDR form."""
    return {ipaddress.ip_interface(address).version for address in addresses}


def plain(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]


def wanted(container: Container, places: Sequence[Place]) -> tuple[PortRequest, ...]:
    """Return what is to be published; nothing where no network publishes."""
    share(places, ())
    able = [one for one in places if one.publishes]
    leading = next((one for one in able if one.gateways or one.own), None)
    if leading is None:
        return ()
    found = requests_of(container)
    address = leading.spec.options.get(BINDING, "")
    if address in ("", ANY):
        return found
    return tuple(replace(one, host_ip=one.host_ip or address) for one in found)


def targets(places: Iterable[Place]) -> dict[PortRequest, str]:
    """Return the ports that no driver leads to a sandbox, and where they are to be led.

    What comes to ``[::1]`` of the host no driver can lead, whatever it says of ``::``.
    """
    found: dict[PortRequest, str] = {}
    for place in places:
        if place.attachment is None:
            continue
        led = set(place.attachment.ports)
        for port in place.ports:
            if port not in led or port.host_ip in ("::", "::1"):
                found[port] = plain(place.addresses[0])
    return found


def set_sysctls(netns: int, text: str, interface: str) -> None:
    """Write ``net.ipv4.conf.IFNAME.log_martians=1,...`` into a namespace."""
    settings = []
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        parts = [interface if part == "IFNAME" else part for part in name.strip().split(".")]
        settings.append(("/".join(parts[1:]), value))
    try:
        net.sysctls_in(netns, settings)
    except OSError as error:
        raise ResourceExhausted(f"sysctl: {text}: {error.strerror}") from error
