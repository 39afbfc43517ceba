"""The network contract.

Terms
    *network*: what endpoints of several sandboxes share, kept by the core as a record with a
    driver's name. *sandbox*: the set of namespaces that one or more containers live in.
    *endpoint*: the place of one sandbox in one network. *attachment*: what a driver made for an
    endpoint: an interface, addresses, published ports.

Who does what
    The core makes the network namespace with its loopback up, gives out addresses and host ports
    (it holds a socket for each port, so that conflicts are found before a driver is asked),
    serves names, and writes the records. The driver makes links, addresses, routes and packet
    filter rules, and nothing else.

Life
    ``create_network`` once for each network, and again for each at every start of the engine;
    then for each sandbox: ``namespace`` (which network namespace it lives in), then, when that
    namespace exists, ``attach`` for each endpoint, before the sandbox's first process or while
    it runs; ``detach`` when the sandbox goes, or is disconnected; ``remove_network`` when nothing
    is attached any more. A namespace that is closed takes its links with it: ``detach`` of one
    that is going (``netns`` is None) must not wait for that.
    After a crash the engine calls ``create_network`` for each network and then ``reconcile`` with
    the attachments that are still wanted: the driver restores their rules where these are gone,
    and removes every other link, rule and port of its own.
    ``guard`` runs from then on, until it is cancelled at the engine's end; what is attached
    stays, and works without the engine.

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
from boxwood.model.endpoint import Attachment, PortRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "CONTAINER",
    "HOST",
    "MULTIPLE",
    "NEW",
    "PRESERVES_SOURCE_IP",
    "PUBLISHES_PORTS",
    "Attachment",
    "Change",
    "EndpointRequest",
    "Namespace",
    "NetworkDriver",
    "NetworkSpec",
    "Pool",
    "PortRequest",
]

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
CROSSES_HOST = "crosses-host"
"""Capability: what a sandbox sends out of its network passes the host's packet filter (hook
``forward``) with the sandbox's own addresses as its source: its egress can be limited."""
MULTIPLE = "multiple"
"""Capability: a sandbox may have endpoints in several networks of this driver."""
OWN_ADDRESSES = "own-addresses"
"""Capability: the driver gives out addresses itself. The core allocates none for its networks:
``EndpointRequest.addresses`` is what the client asked for (mostly nothing), ``gateways`` is empty,
and what :class:`Attachment` says of both is what the sandbox has."""
SHARED_MAC = "shared-mac-address"
"""Capability: all sandboxes of a network have the MAC address of the host's link; one that is asked
for is refused."""
ISOLATES = "isolates-networks"
"""Capability: what is attached to one network of the driver's does not reach what is attached to
another one, whatever routes it makes for itself."""


class Namespace(msgspec.Struct, frozen=True):
    """Which network namespace a sandbox lives in; ``container`` is set for :data:`CONTAINER`."""

    kind: str
    container: str = ""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet of a network, in CIDR form. ``ip_range`` and ``gateway`` may be empty."""

    subnet: str
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = {}


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network as its driver sees it.

    Attributes:
        id: 64 hexadecimal digits.
        options: what the client gave with ``--opt``; a driver refuses what it does not know.
        pools: at most one of each family, unless the client asked for more.
        ipv4, ipv6: which families its endpoints have.
        internal: nothing in it reaches, or is reached from, anywhere but this network and the
            host's own address in it.
        default: the engine's default network (``bridge``).
    """

    id: str
    name: str
    options: dict[str, str] = {}
    pools: tuple[Pool, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    default: bool = False


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox asks of a network.

    Attributes:
        sandbox: the sandbox's id (its first container's).
        network: the network's id.
        endpoint: the endpoint's id, 64 hexadecimal digits.
        mode: the network mode as the client gave it (``none``, ``container:web``, a name).
        interface: the name inside the sandbox (``eth0``); chosen by the core, free there.
        mac_address: as the client gave it; empty: the driver chooses.
        addresses: with their prefix length (``172.17.0.2/16``), given out by the core.
        gateways: one of each family for the default route; empty: no default route.
        ports: what to publish, of every family.
        options: driver options of the endpoint.
    """

    sandbox: str
    network: str = ""
    endpoint: str = ""
    mode: str = ""
    interface: str = "eth0"
    mac_address: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ports: tuple[PortRequest, ...] = ()
    options: dict[str, str] = {}


class Change(msgspec.Struct, frozen=True):
    """What :meth:`NetworkDriver.exchange` makes of one endpoint; as ``update``'s arguments."""

    attachment: Attachment
    netns: int
    gateways: tuple[str, ...]
    ports: tuple[PortRequest, ...]


class Finding(msgspec.Struct, frozen=True):
    """What a driver says of the host, for ``doctor``.

    ``state`` is ``ok``, ``warn`` (something does not work, or not as it should) or ``fail`` (the
    driver's networks do not work); ``advice`` says what to do.
    """

    state: str
    detail: str
    advice: str = ""


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

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        """Return the network as it will be recorded: options checked and filled in. Pure.

        Raises:
            Unsupported: this driver has exactly one, predefined network (the default).
            InvalidArgument: an option is unknown or wrong, or a pool makes no sense here.
        """
        raise Unsupported(
            f"create network: {network.name}: driver {self.name} has no networks to make"
        )

    async def create_network(self, network: NetworkSpec) -> None:
        """Make what the endpoints of ``network`` share. Idempotent: it is called at each start.

        Raises:
            Conflict: a link of that name, or an address, is taken on the host.
        """

    async def remove_network(self, network: NetworkSpec) -> None:
        """Remove what ``create_network`` made. Idempotent; nothing is attached any more."""

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Connect the sandbox whose network namespace is ``netns``.

        Args:
            request: what is asked for.
            netns: a descriptor of the namespace; the caller's, valid during the call only.

        What it made when it raises, it has unmade. The default makes nothing.

        Raises:
            Conflict: an address or a port is taken.
            InvalidArgument: an option of the endpoint is unknown or wrong.
        """
        return Attachment(
            network=request.network, sandbox=request.sandbox, endpoint=request.endpoint
        )

    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        """Undo ``attach``. Idempotent, bounded in time.

        ``netns`` is a descriptor of a namespace that lives on (the sandbox was disconnected);
        None: it is gone, or goes now, and its links with it.
        """

    async def update(
        self,
        attachment: Attachment,
        netns: int,
        *,
        gateways: tuple[str, ...],
        ports: tuple[PortRequest, ...],
    ) -> Attachment:
        """Change default routes and published ports of an endpoint, whole, while it is used.

        What is there and stays is not interrupted. The default can do neither.

        Raises:
            Unsupported: this driver cannot.
        """
        if gateways == attachment.gateways and ports == attachment.ports:
            return attachment
        raise Unsupported(f"driver {self.name} cannot change what is attached")

    async def exchange(self, changes: Sequence[Change]) -> list[Attachment]:
        """Do several :meth:`update` as one: a port that one gives up and another takes leads
        somewhere all the time, where the driver can. The default updates one after the other.

        Returns:
            The attachments by now, in the order of ``changes``.

        Raises:
            as :meth:`update`; all is as it was before.
        """
        done: list[Attachment] = []
        try:
            for one in changes:
                now = await self.update(
                    one.attachment, one.netns, gateways=one.gateways, ports=one.ports
                )
                done.append(now)
        except BaseException:
            for one, now in zip(changes, done, strict=False):
                old = one.attachment
                await self.update(now, one.netns, gateways=old.gateways, ports=old.ports)
            raise
        return done

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Restore what is wanted, remove what is ours and not wanted.

        Returns:
            One sentence for each thing restored or removed.
        """
        return []

    async def guard(self, tell: Callable[[str], None]) -> None:
        """Put back what others remove (a flushed packet filter), as long as it is not cancelled.

        ``tell`` is given a sentence for each restoration; the engine makes an event of it. The
        default returns at once.
        """

    def inspect_host(self, network: NetworkSpec) -> dict[str, object]:
        """Return what is on the host for a network (links, addresses, rules), for a person."""
        return {}

    async def examine(self) -> list[Finding]:
        """Look at what on the host helps or hinders its networks; nothing is changed."""
        return []
