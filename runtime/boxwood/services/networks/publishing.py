"""What a container publishes: from ``PortBindings`` and ``PublishAllPorts`` to port requests."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from boxwood.errors import InvalidArgument
from boxwood.model.endpoint import LAST_PORT, PortRequest, parse_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boxwood.model.config import PortBinding
    from boxwood.model.container import Container


def requests_of(container: Container) -> tuple[PortRequest, ...]:
    """Return what a container asks to publish.

    ``host_ip`` is empty where none is given, ``host_port`` 0 where any will do.

    Raises:
        InvalidArgument: a port, a range or an address that makes no sense.
    """
    host = container.host_config
    found = bindings_of(host.port_bindings or {})
    if host.publish_all_ports:
        there = {request.key for request in found}
        exposed = [parse_port(key) for key in container.config.exposed_ports or {}]
        found += [
            PortRequest(port, protocol, "")
            for port, protocol in sorted(exposed)
            if f"{port}/{protocol}" not in there
        ]
    return tuple(found)


def matched(
    wanted: Iterable[PortRequest], there: Iterable[PortRequest]
) -> tuple[list[PortRequest], list[PortRequest]]:
    """Return which of the ports that are there are wanted, and the wishes that none fulfils.

    Who wants a certain port goes before those who take any.
    """
    left, kept, missing = list(there), [], []
    for wish in sorted(wanted, key=lambda one: not one.host_port):
        low, high = (
            (wish.host_port, wish.last or wish.host_port) if wish.host_port else (1, LAST_PORT)
        )
        found = [
            one
            for one in left
            if one.key == wish.key
            and wish.host_ip in ("", one.host_ip)
            and low <= one.host_port <= high
        ]
        # One wish for both families has one number on both.
        found = [one for one in found if one.host_port == found[0].host_port]
        if found:
            kept += found
            left = [one for one in left if one not in found]
        else:
            missing.append(wish)
    return kept, missing


def bindings_of(bindings: Mapping[str, tuple[PortBinding, ...] | None]) -> list[PortRequest]:
    """Return the port requests of ``PortBindings``; raises InvalidArgument."""
    found = []
    for key in bindings:
        port, protocol = parse_port(key)
        for binding in bindings[key] or ():
            first, last = _host_ports(binding.host_port)
            found.append(PortRequest(port, protocol, _address(binding.host_ip), first, last))
    return sorted(found, key=lambda one: (one.protocol, one.port))


def _host_ports(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first,)
    if not all(one.isascii() and one.isdecimal() and int(one) <= LAST_PORT for one in numbers):
        raise InvalidArgument(f'invalid port specification: "{text}"')
    if not dash:
        return int(first), 0
    if int(last) < int(first) or not int(first):
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return int(first), int(last) if last != first else 0


def _address(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError as error:
        raise InvalidArgument(f'invalid IP address: "{text}"') from error
