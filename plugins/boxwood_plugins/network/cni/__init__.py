"""Network ``cni``: networks that standard CNI plugins make.

Options of a network: ``conflist``, the name of a network configuration list in
``/etc/cni/net.d``, or the path of one; ``path``, the folders of the plugins with colons between
(default: ``/usr/lib/cni:/opt/cni/bin``). Options of the driver are ``conf-dir`` and ``path``. The
form of both is that of the CNI specification 1.0.0 (https://www.cni.dev/docs/spec/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood_plugins.network.cni.driver import CniDriver

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxwood.drivers.network import NetworkDriver


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:
    """Hand over the driver."""
    return CniDriver(root, options) if name == CniDriver.name else None
