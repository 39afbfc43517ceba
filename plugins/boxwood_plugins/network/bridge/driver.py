"""The driver: what :mod:`boxwood.drivers.network` asks, done by links and a packet filter.

All work is done in one thread of the driver's own, so that it comes one after the other and the
event loop never waits for the kernel's locks. What a network and an endpoint need is remembered
here and in the kernel, nowhere else: after a restart the engine tells it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from boxwood.drivers.network import (
    CROSSES_HOST,
    ISOLATES,
    MULTIPLE,
    NEW,
    PRESERVES_SOURCE_IP,
    PUBLISHES_PORTS,
    Attachment,
    Change,
    EndpointRequest,
    Finding,
    Namespace,
    NetworkDriver,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    Internal,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from boxwood_ext.nft import NftError
from boxwood_plugins.network.bridge import flows, rules
from boxwood_plugins.network.bridge import options as opts
from boxwood_plugins.network.bridge.filter import Filter
from boxwood_plugins.network.bridge.foreign import Foreign
from boxwood_plugins.network.bridge.links import (
    Links,
    forward_packets,
    forwards,
    gateways,
    links_on,
)
from boxwood_plugins.network.bridge.watch import Watch

T = TypeVar("T")

DEFAULT_ROOT = Path("/run/boxwood/network/bridge")
"""Of the engine that may take the plain names: table ``boxwood``, bridge ``boxwood0``."""
DEFAULT_BRIDGE = "boxwood0"
_PAUSE_SECONDS = 0.1
"""Between two looks at a packet filter that others change all the time."""
_SENTENCES = 20
"""What was done to others' firewalls, of which the last are kept."""
_LINK = "link"
_MARKS = "marks"
"""The owner of the elements that belong to no network and no endpoint."""


class _Network(NamedTuple):
    spec: NetworkSpec
    options: opts.Options


class BridgeNetwork(NetworkDriver):
    """A bridge for each network, a veth for each endpoint, one nftables table for all."""

    name = "bridge"
    capabilities = frozenset(
        {CROSSES_HOST, ISOLATES, MULTIPLE, PRESERVES_SOURCE_IP, PUBLISHES_PORTS}
    )

    def __init__(self, root: Path, options: Mapping[str, str]) -> None:
        self._driver_options = opts.read_driver(options)
        plain = root == DEFAULT_ROOT
        suffix = "" if plain else "_" + hashlib.sha256(str(root).encode()).hexdigest()[:8]
        self._default_bridge = DEFAULT_BRIDGE if plain else ""
        self._tag = f"boxwood{suffix}"
        self._filter = Filter(self._tag, root / "rules")
        self._links = Links(self._tag)
        self._networks: dict[str, _Network] = {}
        self._firewall: list[str] = []
        self._thread = ThreadPoolExecutor(1, "boxwood-bridge", self._begin)
        self._thread_id = 0

    def _begin(self) -> None:
        self._thread_id = threading.get_native_id()

    async def _in_thread(
        self, work: Callable[[], T], undo: Callable[[T], object] = lambda _: None
    ) -> T:
        """Do the work in the driver's thread; one that nobody waits for any more is undone."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None:
                await loop.run_in_executor(self._thread, undo, future.result())
            raise

    def namespace(self, request: EndpointRequest) -> Namespace:  # noqa: ARG002
        """Return a new namespace."""
        return Namespace(NEW)

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        """Return the network, its options checked; the default one's bridge has a name in them.

        Raises:
            InvalidArgument: an option is unknown or wrong.
            PermissionDenied: there are several pools of one family.
        """
        bridge = self._read(network).bridge
        if not network.default:
            return network
        return msgspec.structs.replace(network, options={opts.NAME: bridge, **network.options})

    def _read(self, network: NetworkSpec) -> opts.Options:
        return opts.read(network, self._default_bridge or f"br-{network.id[:12]}")

    async def create_network(self, network: NetworkSpec) -> None:
        """Make the bridge and its elements. Idempotent.

        Raises:
            Conflict: the name of the bridge is taken.
            Unavailable: no nftables here.
        """
        made = _Network(network, self._read(network))
        await self._in_thread(lambda: self._create(made), lambda _: self._remove(network))

    def _create(self, made: _Network) -> None:
        network, options = made
        for other in self._networks.values():
            if other.options.bridge == options.bridge and other.spec.id != network.id:
                raise Conflict(
                    f"cannot create network {network.id} ({options.bridge}): conflicts with "
                    f"network {other.spec.id} ({other.options.bridge}): networks have same "
                    "bridge name"
                )
        new = network.id not in self._networks
        # The rules first: a bridge is never there without them.
        self._filter.put(network.id, rules.of_network(network, options))
        try:
            with _told(f"create network {network.name}"):
                self._links.make_bridge(network, options, {*self._networks, network.id})
                if self._driver_options.ip_forward and not network.internal:
                    forward_packets(network)
        except BaseException:
            if new:
                self._filter.put(network.id, frozenset())
            raise
        self._networks[network.id] = made
        self._settle_foreign()

    async def remove_network(self, network: NetworkSpec) -> None:
        """Remove the bridge and its elements. Idempotent."""
        await self._in_thread(lambda: self._remove(network))

    def _remove(self, network: NetworkSpec) -> None:
        with _told(f"remove network {network.name}"):
            self._links.remove_bridge(network, self._read(network))
        self._filter.put(network.id, frozenset())
        self._networks.pop(network.id, None)
        self._settle_foreign()
        if not self._networks:
            self._filter.remove()

    def _settle_foreign(self) -> list[str]:
        """Have our rule in others' firewalls, where these need it."""
        wanted = bool(self._networks) and not self._driver_options.respect_host_firewall
        try:
            families, said = Foreign(self._filter.nft, self._tag.upper()).settle(wanted=wanted)
        except NftError as error:  # theirs, and only in our way: the network is made
            families, said = frozenset(), [f"host firewall: {error}"]
        self._filter.put(_MARKS, rules.of_marks(families))
        self._firewall = (self._firewall + said)[-_SENTENCES:]
        return said

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Make the endpoint's veth, addresses, routes and rules.

        Raises:
            NotFound: the network was not made.
            Conflict: the interface's name is taken in the sandbox.
            InvalidArgument: an option or address is wrong.
        """
        made = self._network(request.network)
        return await self._in_thread(
            lambda: self._attach(made, request, netns),
            lambda attachment: self._detach(attachment, link=True),
        )

    def _network(self, key: str) -> _Network:
        try:
            return self._networks[key]
        except KeyError:
            raise NotFound(f"network {key} not found") from None

    def _attach(self, made: _Network, request: EndpointRequest, netns: int) -> Attachment:
        network, options = made
        ports = () if network.internal else rules.led(request.ports, request.addresses)
        routes = () if network.internal else request.gateways
        with _told(f"attach {request.endpoint[:12]}"):
            link, mac = self._links.attach(request, network, options, netns, routes)
            attachment = Attachment(
                network=network.id,
                sandbox=request.sandbox,
                endpoint=request.endpoint,
                interface=request.interface,
                mac_address=mac,
                addresses=request.addresses,
                gateways=routes,
                ports=ports,
                data={_LINK: link},
            )
            try:
                self._filter.put(request.endpoint, _elements(attachment, options))
                flows.forget(attachment.ports)
            except BaseException:
                with suppress(BoxwoodError):
                    self._filter.put(request.endpoint, frozenset())
                self._links.delete(link)
                raise
        return attachment

    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        """Remove the endpoint's rules, and its link where the sandbox lives on. Idempotent."""

        await self._in_thread(lambda: self._detach(attachment, link=netns is not None))

    def _detach(self, attachment: Attachment, *, link: bool) -> None:
        with _told(f"detach {attachment.endpoint[:12]}"):
            if link:
                self._links.delete(attachment.data[_LINK])
            self._filter.put(attachment.endpoint, frozenset())
            flows.forget(attachment.ports)

    async def update(
        self,
        attachment: Attachment,
        netns: int,
        *,
        gateways: tuple[str, ...],
        ports: tuple[PortRequest, ...],
    ) -> Attachment:
        """Change default routes and published ports.

        Raises:
            NotFound: the network was not made.
        """
        change = Change(attachment, netns, gateways, ports)
        return (await self.exchange([change]))[0]

    async def exchange(self, changes: Sequence[Change]) -> list[Attachment]:
        """Change several endpoints; their ports in one transaction of the packet filter."""
        before = [change.attachment for change in changes]
        after = [self._changed(change) for change in changes]
        spaces = [change.netns for change in changes]
        await self._in_thread(
            lambda: self._exchange(before, after, spaces),
            lambda _: self._exchange(after, before, spaces),
        )
        return after

    def _changed(self, change: Change) -> Attachment:
        internal = self._network(change.attachment.network).spec.internal
        return msgspec.structs.replace(
            change.attachment,
            gateways=() if internal else change.gateways,
            ports=() if internal else rules.led(change.ports, change.attachment.addresses),
        )

    def _exchange(
        self, before: list[Attachment], after: list[Attachment], spaces: list[int]
    ) -> None:
        wanted, ports = {}, set()
        for old, new, netns in zip(before, after, spaces, strict=True):
            with _told(f"update {new.endpoint[:12]}"):
                if old.gateways != new.gateways:
                    self._links.reroute(netns, new.interface, old.gateways, new.gateways)
                if bool(old.ports) != bool(new.ports):
                    self._links.set_hairpin(new.data[_LINK], bool(new.ports))
            wanted[new.endpoint] = _elements(new, self._network(new.network).options)
            ports |= set(old.ports) ^ set(new.ports)
        with _told("update"):
            self._filter.put_all(wanted)
            flows.forget(ports)

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Restore the rules of what is wanted; remove links and rules of what is not."""
        attachments = list(wanted)
        return await self._in_thread(lambda: self._reconcile(attachments))

    def _reconcile(self, wanted: list[Attachment]) -> list[str]:
        known = {one.endpoint: one for one in wanted if one.network in self._networks}
        for owner in self._filter.owners():
            if owner not in known and owner not in self._networks and owner != _MARKS:
                self._filter.put(owner, frozenset())
        # What is wanted is noted only, and put right in one transaction.
        for endpoint, attachment in known.items():
            options = self._networks[attachment.network].options
            self._filter.want(endpoint, _elements(attachment, options))
        with _told("reconcile"):
            said = self._sweep({one.data[_LINK] for one in known.values()})
            if self._networks:
                return said + self._filter.settle() + self._settle_foreign()
            self._filter.remove()
            return said

    def _sweep(self, wanted: set[str]) -> list[str]:
        """Remove links of ours that nobody wants."""
        said = []
        for link in self._links.ours():
            _, _, key = link.alias.partition(":")
            if link.kind == "bridge":
                if key not in self._networks and self._links.delete(link.name):
                    said.append(f"bridge {link.name}: it is no network's and is removed")
            elif link.name not in wanted and self._links.delete(link.name):
                said.append(f"link {link.name}: it is no endpoint's and is removed")
        return said

    async def guard(self, tell: Callable[[str], None]) -> None:
        """Look whenever somebody else has changed the packet filter, and put ours back."""
        watch = Watch()
        try:
            while True:
                await watch.changed(lambda pid: pid == self._thread_id)
                for sentence in await self._in_thread(self._restore):
                    tell(sentence)
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            watch.close()

    def _restore(self) -> list[str]:
        if not self._networks:
            return []
        return self._filter.settle() + self._settle_foreign()

    async def examine(self) -> list[Finding]:
        """Say whether the packet filter can be set, and who else drops what is forwarded."""
        return await self._in_thread(self._examine)

    def _examine(self) -> list[Finding]:
        try:
            nft = self._filter.nft
            found = Foreign(nft, self._tag.upper()).examine(
                made.options.bridge for made in self._networks.values()
            )
        except Unavailable as error:
            return [Finding("fail", str(error), "install the package libnftables1")]
        except NftError as error:
            return [Finding("fail", f"packet filter: {error}", "a kernel with nftables is needed")]
        if not forwards():
            found.append(
                Finding(
                    "warn",
                    "the host forwards no packets: networks reach nothing outside",
                    "sysctl -w net.ipv4.ip_forward=1, or ip-forward in the configuration",
                )
            )
        if not any(one.state != "ok" for one in found):
            found.insert(0, Finding("ok", "the packet filter can be set"))
        return found

    def inspect_host(self, network: NetworkSpec) -> dict[str, object]:
        """Return the bridge, the links on it, and the table with the network's elements."""
        options = self._read(network)
        return {
            "bridge": options.bridge,
            "addresses": gateways(network, options),
            "mtu": options.mtu,
            "links": links_on(options.bridge),
            "tables": [f"inet {self._tag}", f"bridge {self._tag}"],
            "elements": sorted(
                f"{element.set}: {' . '.join(element.key)}"
                for element in rules.of_network(network, options)
            ),
            "host_firewall": list(self._firewall),
        }


@contextmanager
def _told(operation: str) -> Iterator[None]:
    """Errors of the kernel in the engine's classes, with what was being done."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(f"{operation}: {error}") from error
    except OSError as error:
        raise Internal(f"{operation}: {error}") from error


def _elements(attachment: Attachment, options: opts.Options) -> frozenset[rules.Element]:
    found = rules.of_ports(attachment.ports, attachment.addresses, options)
    if options.strict:
        link, mac = attachment.data[_LINK], attachment.mac_address
        found |= rules.of_link(link, mac, attachment.addresses)
    return found
