"""The links of the bridge networks: bridges on the host, a veth for each endpoint.

Everything here runs in the driver's one thread.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from boxwood.drivers.network import EndpointRequest, NetworkSpec
from boxwood.errors import Conflict, InvalidArgument
from boxwood_ext import net, rtnl
from boxwood_plugins.network.bridge.options import ISOLATED, Options, refuse_unknown

_SYSCTLS = Path("/proc/sys/net")
_LOOKS, _LOOK_SECONDS = 200, 0.001
_TRIES = 5  # names of a veth, each of 28 random bits

_HAIRPIN, _ISOLATED = 4, 33  # if_link.h: IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED


class Made(NamedTuple):
    """A link of an endpoint: the name of the host's end, the MAC address of the other."""

    link: str
    mac: str


def mac_for(addresses: Iterable[str]) -> str:
    """Return the MAC address for an endpoint's addresses: the same for the same address.

    So nobody who remembers it from an earlier endpoint has it wrong. It is made of the IPv4
    address, as Docker's were.
    """
    found = [ipaddress.ip_interface(text).ip for text in addresses]
    for address in found:
        if address.version == 4:
            return b"\x02\x42".hex(":") + ":" + address.packed.hex(":")
    if found:
        return b"\x02".hex() + ":" + hashlib.sha256(found[0].packed).digest()[:5].hex(":")
    return (b"\x02" + secrets.token_bytes(5)).hex(":")


def gateways(network: NetworkSpec, options: Options) -> list[str]:
    """Return the host's addresses in a network, in CIDR form."""
    found = []
    for pool in network.pools:
        subnet = ipaddress.ip_network(pool.subnet, strict=False)
        four = subnet.version == 4
        mode = options.mode4 if four else options.mode6
        wanted = network.ipv4 if four else network.ipv6
        if pool.gateway and wanted and mode != ISOLATED and not (four and options.inhibit4):
            found.append(f"{ipaddress.ip_interface(pool.gateway).ip}/{subnet.prefixlen}")
    return found


class Links:
    """What is spoken with the kernel; one socket of the host's namespace, kept open."""

    def __init__(self, tag: str) -> None:
        """``tag`` marks what is this engine's: it begins the aliases of its links."""
        self._tag = tag
        self._socket: net.Netlink | None = None

    @property
    def host(self) -> net.Netlink:
        """The socket of the host's namespace."""
        if self._socket is None:
            self._socket = net.Netlink()
        return self._socket

    def all(self) -> list[rtnl.Link]:
        """Return all links of the host."""
        return list(rtnl.links(self.host.query(rtnl.get_links())))

    def find(self, name: str) -> rtnl.Link | None:
        """Return a link of the host, or None."""
        try:
            ask = rtnl.get_link(self.host.index(name))
            return next(rtnl.links(self.host.query(ask)), None)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None

    def ours(self) -> list[rtnl.Link]:
        """Return this engine's bridges and veths: ``alias`` ends with whose they are."""
        return [link for link in self.all() if link.alias.startswith(f"{self._tag}:")]

    def make_bridge(self, network: NetworkSpec, options: Options, known: Collection[str]) -> None:
        """Make the network's bridge, or bring the one that is there into this form. Idempotent.

        ``known`` are the ids of this engine's networks: a bridge of another one that was ours is
        taken over.

        Raises:
            Conflict: a link of that name is somebody else's.
        """
        alias = f"{self._tag}:{network.id}"
        name = options.bridge
        found = self.find(name)
        addresses = gateways(network, options)
        foreign = False
        if found is None:
            # Its own MAC address is set: else it would change with the ports that come and go.
            mac = mac_for(addresses)
            new = rtnl.new_link(name, "bridge", mac=mac, mtu=options.mtu)
            self.host.batch([new, rtnl.set_link(name, alias=alias)])
        elif self._is_left_over(found, known):
            self.host.batch([rtnl.set_link(name, alias=alias)])
        elif found.alias != alias:
            foreign = True
            if not (options.given_name and _is_free(found)):
                raise Conflict(
                    f"cannot create network {network.id} ({name}): conflicts with the link {name} "
                    f"of this host ({found.kind or 'hardware'}), which is not this network's"
                )
        self._configure(network, options, addresses, foreign=foreign)

    def _is_left_over(self, link: rtnl.Link, known: Collection[str]) -> bool:
        tag, _, key = link.alias.partition(":")
        return link.kind == "bridge" and tag == self._tag and key not in known

    def _configure(
        self, network: NetworkSpec, options: Options, addresses: list[str], *, foreign: bool
    ) -> None:
        name = options.bridge
        index = self.host.index(name)
        settings = [(f"ipv4/conf/{name}/route_localnet", "1")]
        if network.ipv6:
            settings += [
                (f"ipv6/conf/{name}/disable_ipv6", "0"),
                (f"ipv6/conf/{name}/accept_ra", "0"),
            ]
        elif not foreign:
            settings.append((f"ipv6/conf/{name}/disable_ipv6", "1"))
        write_sysctls(settings)
        messages = [rtnl.new_address(index, address) for address in addresses]
        if not foreign:
            messages.append(rtnl.set_link(name, mtu=options.mtu))
            there = {one.address for one in self._addresses(index)}
            messages += [rtnl.delete_address(index, one) for one in there - set(addresses)]
        self.host.batch([*messages, rtnl.set_link(name, up=True)])

    def _addresses(self, index: int) -> list[rtnl.Address]:
        """Return the addresses of a link that somebody gave it (link-local ones are its own)."""
        found = rtnl.addresses(self.host.query(rtnl.get_addresses(index)))
        return [
            one
            for one in found
            if one.index == index and not ipaddress.ip_interface(one.address).is_link_local
        ]

    def remove_bridge(self, network: NetworkSpec, options: Options) -> None:
        """Remove a network's bridge, if it is one that we made. Idempotent."""
        link = self.find(options.bridge)
        if link is not None and link.alias == f"{self._tag}:{network.id}":
            self.delete(link.name)

    def delete(self, name: str) -> bool:
        """Delete a link; return whether it was there."""
        try:
            self.host.batch([rtnl.delete_link(name)])
        except net.NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return True

    def attach(
        self,
        request: EndpointRequest,
        network: NetworkSpec,
        options: Options,
        netns: int,
        routes: tuple[str, ...],
    ) -> Made:
        """Make the veth of an endpoint, with its addresses and (``routes``) default routes.

        Raises:
            Conflict: the interface's name is taken in the sandbox.
            InvalidArgument: an address or the MAC address is none.
        """
        mac = request.mac_address.lower().replace("-", ":") or mac_for(request.addresses)
        refuse_unknown(request.options, ())
        link = self._free_name()
        try:
            self._new_veth(link, request, options, netns, mac)
            self._inside(request, network, netns, routes)
            self._wait_for(link)
        except BaseException:
            with suppress(OSError):
                self.delete(link)
            raise
        return Made(link, mac)

    def _free_name(self) -> str:
        for _ in range(_TRIES):
            name = f"veth{secrets.token_hex(4)[:7]}"
            try:
                self.host.index(name)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return name
                raise
        raise Conflict("no free name for a link of the endpoint")

    def _new_veth(
        self, link: str, request: EndpointRequest, options: Options, netns: int, mac: str
    ) -> None:
        """Make the veth and the port of the bridge, in one batch."""
        bridge = self.host.index(options.bridge)
        try:
            new = rtnl.veth(
                link, request.interface, netns=netns, master=bridge, mac=mac, mtu=options.mtu
            )
        except ValueError as error:
            raise InvalidArgument(f"invalid MAC address: {mac}") from error
        try:
            self.host.batch(
                [
                    new,
                    rtnl.set_link(
                        link, no_link_local=True, alias=f"{self._tag}:{request.endpoint}"
                    ),
                    rtnl.set_port(link, "bridge", *_port(request, options)),
                    rtnl.set_link(link, up=True),
                ]
            )
        except net.NetlinkError as error:
            if error.errno == errno.EEXIST and error.index == 0:
                raise Conflict(
                    f"interface {request.interface} is there already in the sandbox"
                ) from error
            raise

    def _wait_for(self, link: str) -> None:
        """Wait until the port forwards: a first packet that is lost costs its sender a second.

        The kernel does that in a work queue of its own, within 0.1 ms unless it is busy; where it
        takes too long nothing is wrong but that packet.
        """
        ask = rtnl.get_link(self.host.index(link))
        for _ in range(_LOOKS):
            if any(found.running for found in rtnl.links(self.host.query(ask))):
                return
            time.sleep(_LOOK_SECONDS)

    def _inside(
        self,
        request: EndpointRequest,
        network: NetworkSpec,
        netns: int,
        routes: tuple[str, ...],
    ) -> None:
        name = request.interface
        settings = []
        if _has_ipv6():
            settings.append((f"ipv6/conf/{name}/disable_ipv6", "0" if network.ipv6 else "1"))
            if network.ipv6:
                settings.append((f"ipv6/conf/{name}/accept_ra", "0"))
        # Who remembers an earlier owner of the address learns of the new one.
        settings.append((f"ipv4/conf/{name}/arp_notify", "1"))
        net.sysctls_in(netns, settings)
        with net.Netlink(netns) as inside:
            index = inside.index(name)
            inside.batch(
                [
                    *(rtnl.new_address(index, address) for address in request.addresses),
                    rtnl.set_link(name, up=True),
                    *(rtnl.new_route("default", gateway, index) for gateway in routes),
                ]
            )

    def reroute(
        self, netns: int, interface: str, old: tuple[str, ...], new: tuple[str, ...]
    ) -> None:
        """Change the default routes through an interface of a sandbox."""
        with net.Netlink(netns) as inside:
            index = inside.index(interface)
            for gateway in old:
                if gateway not in new:
                    with suppress(ProcessLookupError):  # ESRCH: another network has taken it over
                        inside.batch([rtnl.delete_route("default", gateway, index)])
            inside.batch([rtnl.new_route("default", gateway, index) for gateway in new])

    def set_hairpin(self, link: str, on: bool) -> None:
        """Let a port send back to where it came from, or not."""
        self.host.batch([rtnl.set_port(link, "bridge", rtnl.byte(_HAIRPIN, int(on)))])


def write_sysctls(settings: Iterable[tuple[str, str]]) -> None:
    """Write sysctls of the host, where they differ; one of IPv6 may be missing with IPv6."""
    for key, value in settings:
        path = _SYSCTLS / key
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except FileNotFoundError:
            if key.startswith("ipv6/"):
                continue
            raise


def forward_packets(network: NetworkSpec) -> None:
    """Let the host forward the network's packets."""
    settings = []
    if network.ipv4:
        settings.append(("ipv4/ip_forward", "1"))
    if network.ipv6:
        settings += _kept_advertisements()
        settings.append(("ipv6/conf/all/forwarding", "1"))
    write_sysctls(settings)


def forwards() -> bool:
    """Return whether the host forwards IPv4 packets."""
    return (_SYSCTLS / "ipv4/ip_forward").read_text().strip() == "1"


def _kept_advertisements() -> list[tuple[str, str]]:
    """A host that forwards ignores router advertisements unless told so: its links go on."""
    return [
        (f"ipv6/conf/{path.parent.name}/accept_ra", "2")
        for path in sorted((_SYSCTLS / "ipv6/conf").glob("*/accept_ra"))
        if path.parent.name not in ("all", "default") and path.read_text().strip() == "1"
    ]


def links_on(bridge: str) -> dict[str, str]:
    """Return the names of the links on a bridge, each with its alias."""
    with net.Netlink() as host:
        found = list(rtnl.links(host.query(rtnl.get_links())))
    masters = {link.index for link in found if link.name == bridge}
    return {link.name: link.alias for link in found if link.master in masters}


def _port(request: EndpointRequest, options: Options) -> list[bytes]:
    # With br_netfilter a published port of its own leads an endpoint back to its own port.
    return [
        rtnl.byte(_HAIRPIN, int(bool(request.ports))),
        rtnl.byte(_ISOLATED, int(not options.icc)),
    ]


def _is_free(link: rtnl.Link) -> bool:
    """May a bridge that somebody else made be used? Not another network's, of any engine."""
    return link.kind == "bridge" and not link.alias.startswith("boxwood")


def _has_ipv6() -> bool:
    return (_SYSCTLS / "ipv6").is_dir()
