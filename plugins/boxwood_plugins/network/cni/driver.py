"""The driver: each endpoint is one ADD of a configuration list, and one DEL."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from boxwood.drivers import links as _links
from boxwood.drivers.network import (
    MULTIPLE,
    NEW,
    OWN_ADDRESSES,
    PUBLISHES_PORTS,
    Attachment,
    EndpointRequest,
    Namespace,
    NetworkDriver,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import (
    BoxwoodError,
    Conflict,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)
from boxwood_ext import net, rtnl
from boxwood_plugins.network.cni import calls, config, leftovers
from boxwood_plugins.network.cni.calls import Call
from boxwood_plugins.network.cni.config import ConfigList, Result
from boxwood_plugins.network.cni.results import Kept, Results

CONF_DIR: Final = "/etc/cni/net.d"
PATH: Final = "/usr/lib/cni:/opt/cni/bin"
"""Debian's folder of the plugins, and everybody else's."""
_PAUSE: Final = 0.5
"""Seconds before a plugin that refused a DEL after a crash is asked again."""


class CniDriver(NetworkDriver):
    """Addresses, routes and rules are the plugins' own.

    Published ports are left to the core, not to the plugin ``portmap``: nobody would restore its
    rules when they were flushed.
    """

    name = "cni"
    capabilities = frozenset({MULTIPLE, OWN_ADDRESSES, PUBLISHES_PORTS})

    def __init__(self, root: Path, options: Mapping[str, str]) -> None:
        # The engine gives every network driver what the configuration says of the host.
        self._folder = Path(options.get("conf-dir") or CONF_DIR)
        self._path = options.get("path") or PATH
        self._results = Results(root)
        self._networks: dict[str, tuple[NetworkSpec, ConfigList]] = {}
        self._lock = threading.Lock()
        """So that no bridge is removed between a plugin's look at it and its use."""

    def namespace(self, request: EndpointRequest) -> Namespace:  # noqa: ARG002
        """Return a new namespace."""
        return Namespace(NEW)

    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        """Look for the list; what it does not do is refused.

        Raises:
            InvalidArgument, NotFound
        """
        unknown = sorted(network.options.keys() - {"conflist", "path"})
        if unknown:
            raise InvalidArgument(
                f"create network: {network.name}: driver cni has no option {unknown[0]}"
            )
        if not network.options.get("conflist"):
            raise InvalidArgument(
                f"create network: {network.name}: driver cni needs -o conflist=NAME or a path"
            )
        if network.internal or network.ipv6:
            what = "--internal" if network.internal else "--ipv6"
            raise InvalidArgument(
                f"create network: {network.name}: {what}: that is the conflist's to say"
            )
        config.find(network.options["conflist"], self._folder)
        path = network.options.get("path") or self._path
        return msgspec.structs.replace(network, pools=(), options={**network.options, "path": path})

    async def create_network(self, network: NetworkSpec) -> None:
        """Read the list; plugins make what they need when the first sandbox comes.

        Raises:
            NotFound, InvalidArgument: the list is not there any more, or is none.
        """
        found = config.find(network.options["conflist"], self._folder)
        self._networks[network.id] = (network, found)

    async def remove_network(self, network: NetworkSpec) -> None:
        """Remove the bridges that plugins made, and leave to the machine."""
        self._networks.pop(network.id, None)
        with _told("remove network", network.name):
            await asyncio.to_thread(self._clear_bridges, network.id)

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        """Have the plugins join the sandbox.

        Raises:
            NotFound: the network is not made, or a plugin is not there.
            InvalidArgument: something is asked for that the list does not take.
            Unavailable, DeadlineExceeded: a plugin failed.
        """
        if request.network not in self._networks:
            raise NotFound(f"attach: network {request.network[:12]}: not made")
        network, found = self._networks[request.network]
        call = Call(
            request.endpoint, request.interface, network.options["path"], _extra(found, request)
        )
        with _told("attach", request.endpoint):
            place = leftovers.identity(netns)
            kept = Kept(request.network, found, call, sandbox=place)
            return await self._attach(kept, request, netns)

    async def _attach(self, kept: Kept, request: EndpointRequest, netns: int) -> Attachment:
        await asyncio.to_thread(self._begin, kept, netns)
        try:
            place = f"/proc/{os.getpid()}/fd/{netns}"
            with self._held(kept) as held:
                said = await calls.add(kept.config, kept.call, place, held)
            kept = msgspec.structs.replace(kept, result=said)
            made = _read(said, request)
            await asyncio.to_thread(self._results.keep, kept)
        except BaseException:
            await self._undo(kept, netns)
            raise
        return made

    async def _undo(self, kept: Kept, netns: int) -> None:
        """Delete what an ADD that failed may have made; `reconcile` does what is left."""
        for place in (netns, None):
            with suppress(BoxwoodError, OSError):
                await self._delete(kept, place)
                return

    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        """Have the plugins undo it; what has no file was never made, or is undone.

        Raises:
            Unavailable, DeadlineExceeded: a plugin failed; the next ``reconcile`` tries again.
        """
        with _told("detach", attachment.endpoint):
            kept = self._results.get(attachment.endpoint)
            if kept is not None:
                await self._delete(kept, netns)

    async def update(
        self,
        attachment: Attachment,
        netns: int,
        *,
        gateways: tuple[str, ...],
        ports: tuple[PortRequest, ...],
    ) -> Attachment:
        """Change nothing, but have the plugins look whether all is as it was (CHECK).

        Raises:
            Unsupported: a change.
            Unavailable: it is not; the text says what.
        """
        if gateways != attachment.gateways or ports != attachment.ports:
            raise Unsupported("driver cni cannot change what is attached")
        kept = self._results.get(attachment.endpoint)
        if kept is None:
            raise NotFound(f"cni: endpoint {attachment.endpoint[:12]}: not attached")
        if not kept.config.disable_check and kept.config.cni_version >= "0.4.0":
            place = f"/proc/{os.getpid()}/fd/{netns}"
            await calls.check(kept.config, kept.call, place, kept.result)
        return attachment

    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        """Undo what nobody wants any more, and remove the bridges of networks that are gone."""
        endpoints = {attachment.endpoint for attachment in wanted}
        told = []
        for endpoint in [one for one in self._results.all() if one not in endpoints]:
            kept = self._results.get(endpoint)
            if kept is None:
                continue
            what = f"endpoint {endpoint[:12]} of cni"
            try:
                await asyncio.to_thread(leftovers.end, self._results.running(endpoint))
                await self._delete_again(kept)
            except (BoxwoodError, OSError) as error:
                told.append(f"{what}: not removed: {error}")
            else:
                told.append(f"{what} is removed")
        for network in self._results.networks():
            if network not in self._networks:
                gone = await asyncio.to_thread(self._clear_bridges, network)
                told += [f"bridge {name} of cni is removed" for name in gone]
        return told

    def inspect_host(self, network: NetworkSpec) -> dict[str, object]:
        """Return the list, and the bridges that its plugins made."""
        _, found = self._networks.get(network.id, (None, None))
        return {
            "conflist": network.options.get("conflist", ""),
            "plugins": [plugin["type"] for plugin in found.plugins] if found else [],
            "bridges": sorted(self._results.bridges(network.id)),
        }

    async def _delete(self, kept: Kept, netns: int | None) -> None:
        """Ask for a DEL, in the sandbox's namespace or, where that is gone, in one like it.

        Without a namespace most plugins do half of it: Debian's ``bridge`` leaves its rules, which
        it finds by the addresses of the link.
        """
        standing = netns if netns is not None else await asyncio.to_thread(_stand_in, kept)
        try:
            place = f"/proc/{os.getpid()}/fd/{standing}"
            with self._held(kept) as held:
                await calls.delete(kept.config, kept.call, place, kept.result, held)
        finally:
            if netns is None:
                os.close(standing)
        await asyncio.to_thread(self._end, kept)

    async def _delete_again(self, kept: Kept) -> None:
        """Undo what a daemon before this one was asked for, in its sandbox if that lives on.

        A plugin that refuses is asked once more: what the kernel still took down is gone then.
        """
        netns = await asyncio.to_thread(leftovers.find, kept.sandbox)
        try:
            if netns is None:
                await asyncio.to_thread(_sweep, kept.result)
            try:
                await self._delete(kept, netns)
            except (InvalidArgument, Unavailable):
                await asyncio.sleep(_PAUSE)
                await self._delete(kept, netns)
        finally:
            if netns is not None:
                os.close(netns)

    @contextmanager
    def _held(self, kept: Kept) -> Iterator[int]:
        """Have a descriptor that an attachment's plugins inherit."""
        held = leftovers.hold(self._results.running(kept.call.id))
        try:
            yield held
        finally:
            os.close(held)

    def _begin(self, kept: Kept, netns: int) -> None:
        """Keep what is about to be asked, and which bridges will be made for it.

        Raises:
            Conflict: the sandbox has such an interface; a DEL after the ADD would remove that.
        """
        with net.Netlink(netns) as channel:
            if kept.call.interface in _links.find(channel):
                raise Conflict(f"attach: interface {kept.call.interface} is taken")
        with self._lock:
            self._results.keep(kept)
            self._results.add_bridges(kept.network, kept.config.bridges() - _bridges())

    def _end(self, kept: Kept) -> None:
        """Forget what is undone; the last of a network takes the bridges along."""
        with self._lock:
            self._results.forget(kept.call.id)
            others = (self._results.get(one) for one in self._results.all())
            if not any(other and other.network == kept.network for other in others):
                _sweep(kept.result)  # its namespace may still be going
                self._clear_bridges(kept.network)

    def _clear_bridges(self, network: str) -> list[str]:
        """Remove the bridges of a network that nobody else uses."""
        gone = []
        wanted = self._results.bridges(network)
        with net.Netlink() as channel:
            links = _links.find(channel)
            # What is left of sandboxes is going; another port is somebody's who uses the bridge.
            used = {link.master for link in links.values() if link.kind != "veth"}
            for name in sorted(wanted & links.keys()):
                if links[name].kind == "bridge" and links[name].index not in used:
                    channel.batch([rtnl.delete_link(name)])
                    gone.append(name)
        if wanted & links.keys() <= set(gone):
            self._results.forget_bridges(network)
        return gone


@contextmanager
def _told(operation: str, target: str) -> Iterator[None]:
    """Make the contract's errors of the machine's."""
    try:
        yield
    except OSError as error:
        raise _links.failed(operation, target[:12], error) from error


def _extra(found: ConfigList, request: EndpointRequest) -> dict[str, Any]:
    """Return what the plugins are given by the runtime (capabilities).

    Raises:
        InvalidArgument: the list does not take it.
    """
    if request.options:
        raise InvalidArgument(f"attach: driver cni has no option {min(request.options)}")
    extra: dict[str, Any] = {}
    wanted: tuple[tuple[str, str, object], ...] = (
        ("mac", "a MAC address", request.mac_address),
        ("ips", "an address", list(request.addresses)),
    )
    for capability, what, value in wanted:
        if value and not found.able(capability):
            raise InvalidArgument(
                f"attach: conflist {found.name} takes {what} from nobody: "
                f'no plugin in it has the capability "{capability}"'
            )
        if value:
            extra[capability] = value
    return extra


def _result(said: dict[str, Any]) -> Result:
    try:
        return msgspec.convert(said, Result)
    except msgspec.ValidationError as error:
        raise Unavailable(f"cni: the result cannot be understood: {error}") from error


def _read(said: dict[str, Any], request: EndpointRequest) -> Attachment:
    mac, addresses, gateways = _result(said).inside(request.interface)
    return Attachment(
        network=request.network, sandbox=request.sandbox, endpoint=request.endpoint,
        interface=request.interface, mac_address=mac, addresses=addresses, gateways=gateways,
    )  # fmt: skip


def _bridges() -> set[str]:
    with net.Netlink() as channel:
        return {link.name for link in _links.find(channel).values() if link.kind == "bridge"}


def _stand_in(kept: Kept) -> int:
    """Make a namespace with a link as the sandbox's was, by its name and addresses."""
    netns = net.make_namespace()
    try:
        with net.Netlink(netns) as channel:
            channel.batch([rtnl.new_link(kept.call.interface, "bridge", up=True)])
            index = channel.index(kept.call.interface)
            _, addresses, _ = _result(kept.result).inside(kept.call.interface)
            addresses = addresses or tuple(kept.config.reserved(kept.call.id))
            channel.batch([rtnl.new_address(index, address) for address in addresses])
    except BaseException:
        os.close(netns)
        raise
    return netns


def _sweep(said: dict[str, Any]) -> None:
    """Remove the host's ends of links to a sandbox that lives on, where no plugin could see it."""
    ours = {(link.name, link.mac) for link in _result(said).interfaces if not link.sandbox}
    with net.Netlink() as channel:
        for link in _links.find(channel).values():
            if link.kind == "veth" and (link.name, link.mac) in ours:
                with suppress(net.NetlinkError):  # it went by itself
                    channel.batch([rtnl.delete_link(link.name)])
