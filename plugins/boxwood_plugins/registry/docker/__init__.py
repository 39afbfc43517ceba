"""``docker://``: registries that speak the distribution protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood_plugins.registry.docker.transport import DockerTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwood.drivers.registry import RegistryTransport
    from boxwood.model.reference import Reference


@hookimpl
def registry_transport(
    scheme: str, options: Mapping[str, str]
) -> RegistryTransport[Reference] | None:
    """Hand over the transport."""
    return DockerTransport(options) if scheme == DockerTransport.scheme else None
