"""Networks as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.api.shapes.containers import endpoint_id
from boxwood.model import times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.model.container import Container
    from boxwood.services.networks import Network


def summary(network: Network) -> dict[str, Any]:
    """Return the object of a list: no endpoints."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": times.rfc3339(network.created),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": network.options,
        "Labels": network.labels,
    }


def inspect(network: Network, containers: Iterable[Container]) -> dict[str, Any]:
    """Return the object of one network with the running containers in it."""
    shown = summary(network)
    for container in containers:
        endpoint = container.networks.get(network.name)
        if endpoint is None or not container.state.running:
            continue
        shown["Containers"][container.id] = {
            "Name": container.name,
            "EndpointID": endpoint_id(container, endpoint),
            "MacAddress": endpoint.mac_address,
            "IPv4Address": _address(endpoint.ip_address, endpoint.ip_prefix_len),
            "IPv6Address": _address(endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len),
        }
    return shown


def _address(address: str, prefix: int) -> str:
    return f"{address}/{prefix}" if address else ""
