"""The network contract.

Terms
    *network*: what endpoints of several sandboxes share, kept by the core as a record with a
    driver's name. *sandbox*: the set of namespaces that one or more containers live in.
    *endpoint*: the place of one sandbox in one network. *attachment*: what a driver made for an
    endpoint: an interface, addresses, published ports.

Life
    ``create_network`` once for each network, then for each sandbox: ``namespace`` (which network
    namespace it lives in), then, when that namespace exists, ``attach`` for each endpoint;
    ``detach`` when the sandbox goes; ``remove_network`` when nothing is attached any more.
    After a crash the engine calls ``reconcile`` with the attachments that are still wanted: the
    driver removes every other link, rule and port of its own.

A driver whose sandboxes need nothing but a namespace implements ``namespace`` alone::

    class NoNetwork(NetworkDriver):
        name = "none"

        def namespace(self, request: EndpointRequest) -> Namespace:
            return Namespace(NEW)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import msgspec

from boxwood.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NEW = "new"
"""A network namespace of its own, with the loopback up."""
HOST = "host"
"""The daemon's own network namespace."""
CONTAINER = "container"
"""The namespace of another container's sandbox."""

PRESERVES_SOURCE_IP = "preserves-source-ip"
"""Capability: a published port shows the container who really speaks to it."""
PUBLISHES_PORTS = "publishes-ports"
"""Capability: :class:`EndpointRequest.ports` is honoured; otherwise it is refused or warned of."""
MULTIPLE = "multiple"
"""Capability: a sandbox may have endpoints in several networks of this driver."""


class Namespace(msgspec.Struct, frozen=True):
    """Which network namespace a sandbox lives in; ``container`` is set for :data:`CONTAINER`."""

    kind: str
    container: str = ""


class PortRequest(msgspec.Struct, frozen=True):
    """A port to publish; ``host_port`` 0 lets the driver choose."""

    port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox asks of a network.

    Attributes:
        sandbox: the sandbox's id (its first container's).
        network: the network's id.
        mode: the network mode as the client gave it (``none``, ``container:web``, a name).
        addresses: addresses that the core's allocator, or the client, chose.
        ports: what to publish.
        options: driver options of the endpoint.
    """

    sandbox: str
    network: str = ""
    mode: str = ""
    mac_address: str = ""
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    options: dict[str, str] = {}


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. Kept by the core in the record, given back to ``detach`` and ``reconcile``."""

    network: str = ""
    endpoint: str = ""
    interface: str = ""
    mac_address: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()


class NetworkDriver(ABC):
    """One way to connect sandboxes. Methods run in the daemon's loop and must not block it."""

    name: ClassVar[str]
    capabilities: frozenset[str] = frozenset()

    @abstractmethod
    def namespace(self, request: EndpointRequest) -> Namespace:
        """Return which namespace the sandbox lives in. Pure: it makes nothing.

        Raises:
            InvalidArgument: the mode or the options make no sense to this driver.
        """

    async def create_network(self, network: str, options: Mapping[str, str]) -> None:
        """Make what the endpoints of ``network`` share. Idempotent.

        Raises:
            Unsupported: this driver has exactly one, predefined network (the default).
            InvalidArgument: an option is unknown or wrong.
        """
        raise Unsupported(f"create network: {network}: driver {self.name} has no networks to make")

    async def remove_network(self, network: str) -> None:
        """Remove what ``create_network`` made. Idempotent; nothing is attached any more."""

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Connect the sandbox whose network namespace is ``netns``, before its process starts.

        Args:
            request: what is asked for.
            netns: a descriptor of the namespace; the caller's, valid during the call only.

        What it made when it raises, it has unmade. The default makes nothing.

        Raises:
            Conflict: an address or a port is taken.
            ResourceExhausted: no address is left.
        """
        return Attachment(network=request.network)

    async def detach(self, attachment: Attachment) -> None:
        """Undo ``attach``. Idempotent, bounded in time; the namespace may be gone already."""

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Remove what is ours and not wanted; returns one sentence for each thing removed."""
        return []
