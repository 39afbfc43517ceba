"""Network ``none``: a namespace of its own with nothing in it but the loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.network import NEW, EndpointRequest, Namespace, NetworkDriver

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class NoNetwork(NetworkDriver):
    """Nobody to speak to."""

    name = "none"

    def namespace(self, request: EndpointRequest) -> Namespace:  # noqa: ARG002
        """Return a new namespace."""
        return Namespace(NEW)


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return NoNetwork() if name == NoNetwork.name else None
