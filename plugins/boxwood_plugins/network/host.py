"""Network ``host``: the host's own network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.network import (
    HOST,
    PRESERVES_SOURCE_IP,
    EndpointRequest,
    Namespace,
    NetworkDriver,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class HostNetwork(NetworkDriver):
    """Every port is the host's already."""

    name = "host"
    capabilities = frozenset({PRESERVES_SOURCE_IP})

    def namespace(self, request: EndpointRequest) -> Namespace:  # noqa: ARG002
        """Return the host's namespace."""
        return Namespace(HOST)


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return HostNetwork() if name == HostNetwork.name else None
