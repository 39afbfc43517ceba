"""Networks as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.model import times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.model.network import IPAM, IPAMConfig, Network
    from boxwood.services.networks import Endpoint


def summary(network: Network) -> dict[str, Any]:
    """Return the object of a list: no endpoints."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": times.rfc3339(network.created),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": _ipam(network.ipam),
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {},
        "Options": network.options,
        "Labels": network.labels,
    }


def inspect(network: Network, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the object of one network with who is in it."""
    shown = summary(network)
    for endpoint in endpoints:
        at = endpoint.settings
        shown["Containers"][endpoint.container] = {
            "Name": endpoint.name,
            "EndpointID": endpoint.id,
            "MacAddress": at.mac_address,
            "IPv4Address": _address(at.ip_address, at.ip_prefix_len),
            "IPv6Address": _address(at.global_ipv6_address, at.global_ipv6_prefix_len),
        }
    return shown


def _ipam(ipam: IPAM) -> dict[str, Any]:
    return {
        "Driver": ipam.driver,
        "Options": ipam.options,
        "Config": [_pool(config) for config in ipam.config or ()],
    }


def _pool(config: IPAMConfig) -> dict[str, Any]:
    """Return a subnet; what is empty is left out, as Docker does."""
    every = {
        "Subnet": config.subnet,
        "IPRange": config.ip_range,
        "Gateway": config.gateway,
        "AuxiliaryAddresses": config.auxiliary,
    }
    return {key: value for key, value in every.items() if value}


def _address(address: str, prefix: int) -> str:
    return f"{address}/{prefix}" if address else ""
