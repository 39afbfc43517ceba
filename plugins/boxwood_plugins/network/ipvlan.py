"""Network ``ipvlan``: sandboxes that share the MAC address of a host's link.

For networks in which a port may show one MAC address alone. Options of a network: ``parent``,
``ipvlan_mode`` (``l2``, ``l3``, ``l3s``), ``ipvlan_flag`` (``bridge``, ``private``, ``vepa``). In
the modes ``l3`` and ``l3s`` the link routes, so the default route needs no gateway.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.network import MULTIPLE, SHARED_MAC, Attachment, EndpointRequest
from boxwood.errors import InvalidArgument
from boxwood_ext import rtnl
from boxwood_plugins.network._sublinks import SubLinkDriver, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxwood.drivers.network import NetworkDriver

_MODE, _FLAG = "ipvlan_mode", "ipvlan_flag"
# if_link.h: IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS, and their values; the first is the default.
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2
_MODES: Final = {"l2": 0, "l3": 1, "l3s": 2}
_FLAGS: Final = {"bridge": 0, "private": 1, "vepa": 2}


class IpvlanDriver(SubLinkDriver):
    """Another address at the same card."""

    name = kind = "ipvlan"
    capabilities = frozenset({MULTIPLE, SHARED_MAC})
    own_options = frozenset({_MODE, _FLAG})

    def check(self, options: Mapping[str, str]) -> dict[str, str]:
        """Fill in mode and flag."""
        mode = "requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default"
        flag = "requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default flag"
        return {
            _MODE: chosen(options, _MODE, _MODES, mode),
            _FLAG: chosen(options, _FLAG, _FLAGS, flag),
        }

    def attributes(self, options: Mapping[str, str]) -> bytes:
        """Return the attributes of mode and flag."""
        mode, flag = _MODES[options[_MODE]], _FLAGS[options[_FLAG]]
        return rtnl.attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", mode)) + rtnl.attribute(
            _IFLA_IPVLAN_FLAGS, struct.pack("=H", flag)
        )

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Make the sandbox's link; it has the parent's MAC address.

        Raises:
            InvalidArgument: another was asked for.
        """
        if request.mac_address:
            raise InvalidArgument("ipvlan interfaces do not support custom mac address assignment")
        return await super().attach(request, netns)

    def routes_itself(self, options: Mapping[str, str]) -> bool:
        """Only in the mode that switches is there a gateway."""
        return options[_MODE] != "l2"


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return IpvlanDriver(root) if name == IpvlanDriver.name else None
