"""Network ``container:ID``: the network namespace of another container's sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.network import CONTAINER, EndpointRequest, Namespace, NetworkDriver
from boxwood.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "container:"


class ContainerNetwork(NetworkDriver):
    """Whatever the other container has."""

    name = "container"

    def namespace(self, request: EndpointRequest) -> Namespace:
        """Return the namespace of the container that the mode names.

        Raises:
            InvalidArgument: it names none.
        """
        target = request.mode.removeprefix(PREFIX)
        if not target or target == request.mode:
            raise InvalidArgument("invalid container format container:<name|id>")
        return Namespace(CONTAINER, target)


@hookimpl
def network_driver(name: str, root: Path, options: Mapping[str, str]) -> NetworkDriver | None:  # noqa: ARG001
    """Hand over the driver."""
    return ContainerNetwork() if name == ContainerNetwork.name else None
