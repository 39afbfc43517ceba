"""What a container may ask of a network, checked before anything is made; Docker's words."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument
from boxwood.model.network import PREDEFINED
from boxwood.services.networks.placing import IFNAME, SYSCTLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boxwood.drivers.network import NetworkSpec
    from boxwood.model.config import EndpointIPAMConfig, EndpointSettings

_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\Z")
_INTERFACE = re.compile(r"[^\s/:]{1,15}\Z")
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.[a-z]+\.IFNAME\.[a-z0-9_]+=\S+\Z")


def check_settings(
    name: str, spec: NetworkSpec, at: EndpointSettings, *, own: bool = False
) -> None:
    """Check the settings of one endpoint.

    Args:
        own: the network's driver gives out addresses itself, of subnets that the core knows not.

    Raises:
        InvalidArgument: all that is wrong, a line each.
    """
    found = [*_addresses(name, spec, at.ipam_config, own), *_names(name, at), *_options(at)]
    if at.mac_address and _MAC.match(at.mac_address) is None:
        found.append(f"invalid MAC address: {at.mac_address}")
    if found:
        lines = "\n".join(found)
        raise InvalidArgument(
            f"invalid config for network {name}: invalid endpoint settings:\n{lines}"
        )


def _addresses(
    name: str, spec: NetworkSpec, asked: EndpointIPAMConfig | None, own: bool
) -> Iterator[str]:
    wanted = [(4, asked.ipv4_address), (6, asked.ipv6_address)] if asked else []
    given = [(version, text) for version, text in wanted if text]
    if given and name in PREDEFINED:
        yield "user specified IP address is supported on user defined networks only"
        return
    for version, text in given:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            address = None
        if address is None or address.version != version:
            yield f"invalid IPv{version} address: {text}"
        elif not own and not any(
            address in ipaddress.ip_network(pool.subnet) for pool in spec.pools
        ):
            yield f"no configured subnet contains IP address {text}"
    for text in (asked.link_local_ips or ()) if asked else ():
        try:
            ipaddress.ip_address(text)
        except ValueError:
            yield f"invalid link-local IP address: {text}"


def _names(name: str, at: EndpointSettings) -> Iterator[str]:
    if at.aliases and name in PREDEFINED:
        yield "network-scoped aliases are only supported for user-defined networks"
    for link in at.links or ():
        if not link.partition(":")[0]:
            yield f"invalid link: {link}"


def _options(at: EndpointSettings) -> Iterator[str]:
    options: Mapping[str, str] = at.driver_opts or {}
    wanted = options.get(IFNAME)
    if wanted is not None and (_INTERFACE.match(wanted) is None or wanted in (".", "..", "lo")):
        yield f"invalid interface name: {wanted}"
    for entry in options.get(SYSCTLS, "").split(",") if SYSCTLS in options else ():
        if _SYSCTL.match(entry) is None:
            yield f"invalid sysctl: {entry}"
