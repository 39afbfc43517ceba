"""Network ``macvlan``: sandboxes with MAC addresses of their own in the network of a host's link.

They reach what that link reaches, but, by the kernel's design, not the host. Options of a network:
``parent``, ``macvlan_mode`` (``bridge``, ``private``, ``vepa``, ``passthru``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boxwood.drivers.hookspecs import hookimpl
from boxwood_ext import rtnl
from boxwood_plugins.network._sublinks import SubLinkDriver, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxwood.drivers.network import NetworkDriver

_MODE: Final = "macvlan_mode"
# if_link.h: IFLA_MACVLAN_MODE, and its values; the first is the default.
_IFLA_MACVLAN_MODE: Final = 1
_MODES: Final = {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8}
_NOT_VALID: Final = (
    "requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default"
)


class MacvlanDriver(SubLinkDriver):
    """Another card in the same network."""

    name = kind = "macvlan"
    own_options = frozenset({_MODE})

    def check(self, options: Mapping[str, str]) -> dict[str, str]:
        """Fill in the mode."""
        return {_MODE: chosen(options, _MODE, _MODES, _NOT_VALID)}

    def attributes(self, options: Mapping[str, str]) -> bytes:
        """Return the mode's attribute."""
        return rtnl.number(_IFLA_MACVLAN_MODE, _MODES[options[_MODE]])

    def exclusive(self, options: Mapping[str, str]) -> bool:
        """A link that is passed through is one sandbox's."""
        return options[_MODE] == "passthru"


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return MacvlanDriver(root) if name == MacvlanDriver.name else None
