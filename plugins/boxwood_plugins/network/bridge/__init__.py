"""Network ``bridge``: a bridge on the host for each network, a veth for each endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxwood.drivers.network import NetworkDriver


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:
    """Hand over the driver."""
    if name != "bridge":
        return None
    from boxwood_plugins.network.bridge.driver import BridgeNetwork

    return BridgeNetwork(root, options)
