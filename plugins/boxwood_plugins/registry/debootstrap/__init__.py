"""``debootstrap:SUITE``: base images made of a distribution's own packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood_plugins.registry.debootstrap.transport import DebootstrapTransport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from boxwood.drivers.registry import RegistryTransport


@hookimpl
def registry_transport(scheme: str, options: Mapping[str, str]) -> RegistryTransport[Any] | None:
    """Hand over the transport."""
    return DebootstrapTransport(options) if scheme == DebootstrapTransport.scheme else None
