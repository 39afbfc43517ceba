"""What macvlan and ipvlan share: links that hang on a parent of the host's, one in each sandbox.

There is nothing of a sandbox on the host: its link is made where it is used. It is marked by its
alias (the engine's tag and the endpoint), so that one which a crash left behind in a sandbox that
lived on is known, and gives way to the next.

Without ``parent`` the network has one of its own that leads nowhere (``dm-`` and 12 digits of the
network's id): a dummy, or an empty bridge where the kernel has none; it is internal then, as
Docker's. A parent ``NAME.NUMBER`` that is not there is made as the VLAN of this number.
"""

from __future__ import annotations

import asyncio
import errno
import struct
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from boxwood.drivers import links as _links
from boxwood.drivers.network import (
    MULTIPLE,
    NEW,
    Attachment,
    EndpointRequest,
    Namespace,
    NetworkDriver,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood_ext import net, rtnl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MTU: Final = "com.docker.network.driver.mtu"
_PASSING: Final = "bw-"
"""Of a link inside a sandbox that has not got its name yet."""
_IFLA_VLAN_ID: Final = 1
_WAITS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between two tries at an address that is still a dying namespace's."""
_VLANS: Final = range(1, 4095)
_MTUS: Final = range(68, 65536)
"""Below 68 no IPv4 host may be (RFC 791)."""


class SubLinkDriver(NetworkDriver):
    """A driver of one kind of such links. A subclass says the kind, its modes and attributes."""

    capabilities = frozenset({MULTIPLE})
    kind: ClassVar[str]
    own_options: ClassVar[frozenset[str]]

    def __init__(self, root: Path | None = None) -> None:
        self._mark = f"{_links.engine_tag(root) if root else 'boxwood'}:"
        self._networks: dict[str, NetworkSpec] = {}
        self._attached: set[str] = set()

    # What a kind says of itself

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return the kind's own options, filled in; raises InvalidArgument."""

    @abstractmethod
    def attributes(self, options: Mapping[str, str]) -> bytes:
        """Return the attributes of a new link (IFLA_INFO_DATA)."""

    def exclusive(self, options: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Must no other network have the same parent?"""
        return False

    def routes_itself(self, options: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Does the link route, so that the default route needs no gateway?"""
        return False

    # The contract

    def namespace(self, request: EndpointRequest) -> Namespace:  # noqa: ARG002
        """Return a new namespace."""
        return Namespace(NEW)

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        """Check the options; without a parent the network is internal.

        Raises:
            InvalidArgument
        """
        options = dict(network.options)
        unknown = sorted(options.keys() - self.own_options - {"parent", MTU})
        if unknown:
            raise InvalidArgument(
                f"create network: {network.name}: driver {self.name} has no option {unknown[0]}"
            )
        options |= self.check(options)
        _mtu(options)
        parent = options.setdefault("parent", "") or f"dm-{network.id[:12]}"
        internal = network.internal or not network.options.get("parent")
        if len(parent.encode()) > rtnl.NAME_MAX or "/" in parent or not parent.isprintable():
            raise InvalidArgument(f"create network: -o parent={parent}: not a name of a link")
        if parent == "lo":
            raise InvalidArgument(f"loopback interface is not a valid {self.name} parent link")
        options["parent"] = parent
        return msgspec.structs.replace(network, options=options, internal=internal)

    async def create_network(self, network: NetworkSpec) -> None:
        """Make the parent link where it is not there; others of the host's stay as they are."""
        parent = network.options["parent"]
        for other in self._networks.values():
            alike = other.id != network.id and other.options["parent"] == parent
            if alike and (self.exclusive(other.options) or self.exclusive(network.options)):
                raise Conflict(f"network {other.id} is already using parent interface {parent}")
        await asyncio.to_thread(self._make_parent, network)
        self._networks[network.id] = network

    async def remove_network(self, network: NetworkSpec) -> None:
        """Remove the parent link, if it was made for this network."""
        self._networks.pop(network.id, None)
        await asyncio.to_thread(_delete_in, f"{self._mark}{network.id}")

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Make the sandbox's link.

        Raises:
            NotFound: the network, or its parent link, is not there.
            Conflict: the interface's name is taken in the sandbox.
            InvalidArgument: an option.
        """
        if request.options:
            raise InvalidArgument(
                f"attach: driver {self.name} has no option {min(request.options)}"
            )
        network = self._networks.get(request.network)
        if network is None:
            raise NotFound(f"attach: network {request.network[:12]}: not made")
        made = await self._attached_soon(network, request, netns)
        self._attached.add(request.endpoint)
        return made

    async def _attached_soon(
        self, network: NetworkSpec, request: EndpointRequest, netns: int
    ) -> Attachment:
        """Attach; an address of a sandbox that has just gone is waited for.

        The kernel takes a namespace apart in the background, and until then its ipvlan link has
        the address: a tenth of a second, more on a busy machine.
        """
        for delay in _WAITS:
            try:
                return await asyncio.to_thread(self._attach, network, request, netns)
            except Conflict as error:
                if getattr(error.__cause__, "errno", 0) != errno.EADDRINUSE:
                    raise
            await asyncio.sleep(delay)
        return await asyncio.to_thread(self._attach, network, request, netns)

    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        """Remove the link of a sandbox that lives on; another's goes with its namespace."""
        self._attached.discard(attachment.endpoint)
        if netns is not None:
            await asyncio.to_thread(_delete_in, f"{self._mark}{attachment.endpoint}", netns)

    async def update(
        self,
        attachment: Attachment,
        netns: int,
        *,
        gateways: tuple[str, ...],
        ports: tuple[PortRequest, ...],
    ) -> Attachment:
        """Change the default routes; there are no ports."""
        network = self._networks.get(attachment.network)
        direct = network is not None and self.routes_itself(network.options)
        return await _links.updated(self, attachment, netns, gateways, ports, direct=direct)

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Remove the parent links of networks that are no more."""
        self._attached = {attachment.endpoint for attachment in wanted}
        return await asyncio.to_thread(self._clear)

    def inspect_host(self, network: NetworkSpec) -> dict[str, object]:
        """Return the parent link, and its state."""
        with net.Netlink() as channel:
            parent = _links.find(channel).get(network.options.get("parent", ""))
        if parent is None:
            return {"parent": None}
        ours = parent.alias == f"{self._mark}{network.id}"
        return {"parent": parent.name, "mtu": parent.mtu, "up": parent.up, "made": ours}

    # In a thread: the kernel's lock of all links may be somebody else's for a while

    def _make_parent(self, network: NetworkSpec) -> None:
        name = network.options["parent"]
        try:
            with net.Netlink() as channel:
                links = _links.find(channel)
                if name not in links:
                    self._new_parent(channel, network, links)
                elif links[name].alias == f"{self._mark}{network.id}":
                    channel.batch([rtnl.set_link(name, up=True)])
        except OSError as error:
            raise _links.failed("create network", f"parent {name}", error) from error

    def _new_parent(
        self, channel: net.Netlink, network: NetworkSpec, links: Mapping[str, rtnl.Link]
    ) -> None:
        name = network.options["parent"]
        base, dot, number = name.rpartition(".")
        mark = rtnl.set_link(name, alias=f"{self._mark}{network.id}", up=True)
        mtu = _mtu(network.options)
        if network.internal and not (dot and base in links):
            for kind in ("dummy", "bridge"):
                try:
                    channel.batch([rtnl.new_link(name, kind, mtu=mtu), mark])
                except net.NetlinkError as error:
                    if kind != "dummy" or error.errno != errno.EOPNOTSUPP:
                        _undo(channel, name)
                        raise
                else:
                    return
        if not (dot and number.isdecimal() and int(number) in _VLANS):
            raise InvalidArgument(
                f"create network: -o parent={name}: there is no such link, and it is no VLAN's "
                "name, as eth0.10"
            )
        if base not in links:
            raise InvalidArgument(f"create network: -o parent={name}: there is no link {base}")
        data = rtnl.attribute(_IFLA_VLAN_ID, struct.pack("=H", int(number)))
        link = rtnl.new_link(name, "vlan", data, parent=links[base].index, mtu=mtu)
        try:
            channel.batch([link, mark])
        except net.NetlinkError:
            _undo(channel, name)
            raise

    def _attach(self, network: NetworkSpec, request: EndpointRequest, netns: int) -> Attachment:
        passing = f"{_PASSING}{request.endpoint[:11]}"
        parent = network.options["parent"]
        gateways = () if network.internal else request.gateways
        try:
            with net.Netlink() as here, net.Netlink(netns) as there:
                self._clear_sandbox(there, request.interface)
                data = self.attributes(network.options)
                index = here.index(parent)
                mtu, mac = _mtu(network.options), request.mac_address
                here.batch(
                    [rtnl.new_link(passing, self.kind, data,
                                   parent=index, netns=netns, mac=mac, mtu=mtu)]
                )  # fmt: skip
                try:
                    there.batch([rtnl.set_link(passing, alias=f"{self._mark}{request.endpoint}")])
                    link = there.index(passing)
                    _links.furnish(netns, there, link, request)
                    direct = self.routes_itself(network.options)
                    there.batch(_links.routes(gateways, link, direct=direct))
                    mac = _links.find(there)[request.interface].mac
                except BaseException:
                    _undo(there, passing)
                    _delete_marked(there, f"{self._mark}{request.endpoint}")
                    raise
        except OSError as error:
            what = f"{request.interface} on {parent}"
            raise _links.failed("attach", what, error) from error
        except ValueError as error:
            raise InvalidArgument(f"attach: {request.interface}: {error}") from error
        return Attachment(
            network=request.network, sandbox=request.sandbox, endpoint=request.endpoint,
            interface=request.interface, mac_address=mac, addresses=request.addresses,
            gateways=gateways,
        )  # fmt: skip

    def _clear_sandbox(self, channel: net.Netlink, interface: str) -> None:
        """Remove what a crash left in a sandbox that lives on, and nobody knows."""
        for link in _links.find(channel).values():
            endpoint = link.alias.removeprefix(self._mark)
            marked = endpoint != link.alias and endpoint not in self._attached
            unnamed = link.kind == self.kind and link.name.startswith(_PASSING)
            if unnamed or (marked and link.name == interface):
                channel.batch([rtnl.delete_link(index=link.index)])

    def _clear(self) -> list[str]:
        """Remove parents that were made for networks which are not there."""
        told = []
        with net.Netlink() as channel:
            for link in _links.find(channel).values():
                network = link.alias.removeprefix(self._mark)
                if network == link.alias or network in self._networks:
                    continue
                if link.name == f"dm-{network[:12]}" or link.kind == "vlan":
                    _undo(channel, link.name)
                    told.append(f"link {link.name} of no network is removed")
        return told


def _undo(channel: net.Netlink, name: str) -> None:
    """Remove a link that may be there."""
    try:
        channel.batch([rtnl.delete_link(name)])
    except net.NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise


def _delete_marked(channel: net.Netlink, mark: str) -> None:
    """Remove the links with this alias."""
    for link in _links.find(channel).values():
        if link.alias == mark:
            _undo(channel, link.name)


def _delete_in(mark: str, netns: int = -1) -> None:
    """Remove the links with this alias from a namespace."""
    try:
        with net.Netlink(netns) as channel:
            _delete_marked(channel, mark)
    except OSError as error:
        raise _links.failed("remove", "link", error) from error


def _mtu(options: Mapping[str, str]) -> int:
    """Return the MTU that was asked for; 0: the parent's."""
    said = options.get(MTU, "")
    if not said:
        return 0
    if not said.isdecimal() or int(said) not in _MTUS:
        raise InvalidArgument(f"create network: -o {MTU}={said}: not a size of packets")
    return int(said)


def chosen(options: Mapping[str, str], key: str, words: Mapping[str, int], error: str) -> str:
    """Return an option that is one of some words, the first where it is not given.

    Raises:
        InvalidArgument: with ``error``, in which ``%s`` stands for what was said.
    """
    said = options.get(key) or next(iter(words))
    if said not in words:
        raise InvalidArgument(error % said)
    return said
