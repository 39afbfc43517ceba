"""What the configuration says of networks, and which requests make no sense."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import InvalidArgument, PermissionDenied, Unavailable
from boxwood.model.network import (
    DEFAULT_BRIDGE_OPTION,
    DNS_LABEL,
    DNS_MODES,
    DNS_ON,
    IPAM,
    RESERVED,
    WAY_OUT,
    IPAMConfig,
)
from boxwood.model.wire import replace
from boxwood.services.networks.ranges import PoolSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boxwood.model.network import Network, NetworkCreate

_BRIDGE = "com.docker.network.bridge."
NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the configuration what the service needs.

    Attributes:
        sources: blocks that subnets are chosen from.
        bip, bip6: address and prefix length of the host in the default network; empty: chosen.
        gateway, gateway6: the way out of the default network; empty: the host.
        fixed_cidr, fixed_cidr6: parts of these that addresses are given from; empty: all.
        bridge: name of the default network's link; empty: the driver's choice.
        options: options of new networks, by driver.
    """

    sources: tuple[PoolSource, ...] = ()
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr6: str = ""
    gateway: str = ""
    gateway6: str = ""
    bridge: str = ""
    ipv6: bool = False
    mtu: int = 0
    icc: bool = True
    ip_masq: bool = True
    publish: str = ""
    options: Mapping[str, Mapping[str, str]] = {}


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidArgument for a label that means something to the engine, and says nonsense."""
    mode = labels.get(DNS_LABEL, DNS_ON)
    if mode not in DNS_MODES:
        raise InvalidArgument(f"label {DNS_LABEL}: {mode}: must be one of {', '.join(DNS_MODES)}")


def default_options(settings: NetworkSettings) -> dict[str, str]:
    """Return the default network's options, under Docker's names."""
    found = {
        DEFAULT_BRIDGE_OPTION: "true",
        f"{_BRIDGE}enable_icc": _word(settings.icc),
        f"{_BRIDGE}enable_ip_masquerade": _word(settings.ip_masq),
        f"{_BRIDGE}host_binding_ipv4": settings.publish or "0.0.0.0",
        "com.docker.network.driver.mtu": str(settings.mtu or 1500),
    }
    if settings.bridge:
        found[f"{_BRIDGE}name"] = settings.bridge
    return found


def default_pools(settings: NetworkSettings) -> tuple[IPAMConfig, ...]:
    """Return the default network's subnets as far as the configuration names them.

    Raises:
        InvalidArgument: names the key.
    """
    found = []
    for key, address, part in (
        ("bip", settings.bip, settings.fixed_cidr),
        ("bip6", settings.bip6, settings.fixed_cidr6),
    ):
        if not address and not part:
            continue
        try:
            gateway = ipaddress.ip_interface(address) if address else None
            within = ipaddress.ip_network(part) if part else None
        except ValueError as error:
            raise InvalidArgument(f"configuration: {key} or fixed-cidr: {error}") from error
        subnet = gateway.network if gateway else within
        found.append(
            IPAMConfig(
                subnet=str(subnet),
                gateway=str(gateway.ip) if gateway else "",
                ip_range=str(within) if within and within != subnet else "",
            )
        )
    return tuple(found)


def with_gateways(settings: NetworkSettings, pools: Iterable[IPAMConfig]) -> tuple[IPAMConfig, ...]:
    """Return the default network's subnets with the gateways that the configuration names.

    They are kept as auxiliary addresses, as Docker does: nobody is given them.

    Raises:
        InvalidArgument: one is in none of the subnets.
    """
    found = list(pools)
    for version, text in ((4, settings.gateway), (6, settings.gateway6)):
        there = False
        for number, pool in enumerate(found):
            subnet = ipaddress.ip_network(pool.subnet)
            if subnet.version != version:
                continue
            inside = bool(text) and ipaddress.ip_address(text) in subnet
            there = there or inside
            auxiliary = {WAY_OUT[version]: text} if inside else None
            found[number] = replace(pool, auxiliary=auxiliary)
        if text and not there:
            key = "default-gateway" if version == 4 else "default-gateway-v6"
            raise InvalidArgument(
                f"configuration: {key}: {text} is in no subnet of the default network"
            )
    return tuple(found)


def refuse(wanted: NetworkCreate) -> None:
    """Refuse what no network can be, before anything is made.

    Raises:
        InvalidArgument, PermissionDenied, Unavailable: in Docker's words.
    """
    if not wanted.name.strip() or any(ord(char) < 0x20 for char in wanted.name):
        raise InvalidArgument(f"invalid name: {wanted.name}")
    if wanted.name in RESERVED:
        raise PermissionDenied(f"operation is not permitted on predefined {wanted.name} network")
    if wanted.scope == "swarm":
        raise PermissionDenied("cannot create a swarm scoped network when swarm is not active")
    if wanted.scope not in ("", "local"):
        raise Unavailable(NO_SWARM)
    if wanted.ingress:
        raise PermissionDenied("Ingress network can only be global scope network")
    if wanted.config_only:
        _refuse_configuration(wanted)
    if wanted.ipv4 is False and not wanted.ipv6:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")


def _refuse_configuration(wanted: NetworkCreate) -> None:
    if wanted.internal or wanted.attachable:
        raise PermissionDenied(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    if wanted.config_from and wanted.config_from.network:
        raise PermissionDenied(
            "a configuration network cannot depend on another configuration network"
        )


def configured(wanted: NetworkCreate, source: Network) -> NetworkCreate:
    """Return a request with what a configuration network holds.

    Raises:
        PermissionDenied: the request has a configuration of its own.
    """
    ipam = wanted.ipam or IPAM()
    own = (ipam.config, ipam.options, wanted.labels, wanted.options, wanted.ipv6)
    if any(own) or ipam.driver not in ("", "default"):
        raise PermissionDenied(
            "user specified configurations are not supported if the network depends on a "
            "configuration network"
        )
    return replace(
        wanted,
        ipam=source.ipam,
        options=source.options,
        labels=source.labels,
        ipv4=source.ipv4,
        ipv6=source.ipv6,
    )


def _word(value: bool) -> str:
    return "true" if value else "false"
