"""A container's place in a network, as inspect shows it."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any

from boxwood.model import ids
from boxwood.model.network import PREDEFINED
from boxwood.model.wire import replace

if TYPE_CHECKING:
    from boxwood.model.config import EndpointSettings
    from boxwood.model.container import Container


def names_of(container: Container, at: EndpointSettings) -> tuple[str, ...]:
    """Return the names a container has in a user network: its own first, each once."""
    wanted = (
        container.name,
        *(at.aliases or ()),
        ids.short(container.id),
        container.config.hostname,
    )
    return tuple(dict.fromkeys(name for name in wanted if name))


def endpoint(container: Container, name: str) -> EndpointSettings:
    """Return the place of a container in a network: what was asked for and what it has.

    The id of one that no driver made is derived: a container has one place in a network.
    """
    at = container.networks[name]
    if not container.state.running:
        return at
    attachment = container.sandbox.attachments.get(name)
    if attachment is None:
        derived = hashlib.sha256(f"{container.id}/endpoint/{at.network_id}".encode()).hexdigest()
        return replace(at, endpoint_id=derived)
    changes: dict[str, Any] = {
        "endpoint_id": attachment.endpoint,
        "mac_address": attachment.mac_address or at.mac_address,
    }
    for text in attachment.addresses:
        address = ipaddress.ip_interface(text)
        length = address.network.prefixlen
        if address.is_link_local or length == address.max_prefixlen:
            continue
        if address.version == 4:
            changes |= {"ip_address": str(address.ip), "ip_prefix_len": length}
        else:
            changes |= {"global_ipv6_address": str(address.ip), "global_ipv6_prefix_len": length}
    for gateway in container.sandbox.gateways.get(name, ()):
        changes["ipv6_gateway" if ":" in gateway else "gateway"] = gateway
    if name not in PREDEFINED:
        changes["dns_names"] = names_of(container, at)
    return replace(at, **changes)


def split_link(link: str) -> tuple[str, str]:
    """Split ``name:alias``, or ``/name:/parent/alias`` as inspect shows it."""
    name, _, alias = link.partition(":")
    if name.startswith("/"):
        return name[1:], alias.rpartition("/")[2] or name[1:]
    return name, alias or name
