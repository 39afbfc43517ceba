"""A world for network drivers: a host of its own, sandboxes, somebody outside, and traffic.

The driver works in a network namespace that only its test has, and takes it for the host: what it
makes there meets nothing of the machine's, and all that it leaves is seen. The calling thread
enters it, so the threads and processes that the driver starts are in it too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from boxwood_ext import net, rtnl

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MAIN_TABLE = 254

HERE: Final = -1
"""In place of a descriptor: the host."""
HOST_ADDRESS, OUTSIDE_ADDRESS = "198.51.100.1", "198.51.100.2"
"""The host's to the outside, and who stands there (RFC 5737)."""
HOST_ADDRESS6, OUTSIDE_ADDRESS6 = "2001:db8:51::1", "2001:db8:51::2"
REACHED_SECONDS = 10.0
"""In which what is promised must arrive, on a busy machine."""
ABSENT_SECONDS = 0.5
"""How long is waited for what must not arrive."""


class Sight(NamedTuple):
    """What is in a namespace, as the kernel tells it."""

    links: dict[str, rtnl.Link]
    addresses: dict[str, set[str]]
    """By link, in CIDR form, without those that are the link's own (``fe80::``)."""
    routes: set[tuple[str, str, str]]
    """Of the main table: destination, gateway (or empty), link."""

    def defaults(self) -> dict[str, str]:
        """Return the gateways of the default routes, each with its link."""
        return {
            gateway: link for to, gateway, link in self.routes if to in ("0.0.0.0/0", "::/0")
        }  # fmt: skip

    def names(self) -> set[str]:
        """Return the names of the links."""
        return set(self.links)


def look(netns: int = HERE) -> Sight:
    """Return what is in a namespace."""
    with net.Netlink(netns) as channel:
        links = {link.index: link for link in rtnl.links(channel.query(rtnl.get_links()))}
        addresses: dict[str, set[str]] = {link.name: set() for link in links.values()}
        for found in rtnl.addresses(channel.query(rtnl.get_addresses())):
            if found.index in links and not found.address.startswith("fe80:"):
                addresses[links[found.index].name].add(found.address)
        routes = {
            (route.destination, route.gateway, links[route.index].name)
            for route in rtnl.routes(channel.query(rtnl.get_routes()))
            if route.table == _MAIN_TABLE
            and route.index in links
            and not route.destination.startswith(("fe80:", "ff00:"))
        }
    # The kernel says by and by that a link runs; that is nothing that anybody made.
    still = {link.name: replace(link, running=False) for link in links.values()}
    return Sight(still, addresses, routes)


def rules() -> list[str]:
    """Return the packet filter's rules, in an order that does not matter; none without nft."""
    program = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return []
    command = [program, "--stateless", "list", "ruleset"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return sorted(line.strip() for line in done.stdout.splitlines())


def flush_rules() -> None:
    """Do what a careless administrator does."""
    subprocess.run(["nft", "flush", "ruleset"], check=True, env={"PATH": "/usr/sbin:/sbin:/bin"})


@contextmanager
def host() -> Iterator[None]:
    """Be on a host with nothing but a loopback, until the end of the block."""
    homes = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    folder = os.getcwd()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _called(libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS), "unshare")
        try:
            # A sysfs shows the links of the namespace that it was mounted in.
            _called(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount: /")
            _called(libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount: /sys")
            with net.Netlink() as channel:
                channel.batch([rtnl.set_link("lo", up=True)])
            yield
        finally:
            # A thread that still runs shares the folder: who changes mounts must not.
            _called(libc.unshare(_CLONE_FS), "unshare")
            for home in homes:
                _called(libc.setns(home, 0), "setns")
            os.chdir(folder)
    finally:
        for home in homes:
            os.close(home)


def _called(status: int, what: str) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"kit: {what}: {os.strerror(number)}")


@contextmanager
def outside(*towards: str) -> Iterator[int]:
    """Give a namespace beyond the host, joined to it by a link.

    Its default route leads to the host, and so do the networks ``towards``: what arrives is the
    host's own doing. The host forwards, as one does that was told to.
    """
    with ExitStack() as stack:
        netns = net.make_namespace()
        stack.callback(os.close, netns)
        for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", family).write_text("1")
        with net.Netlink() as here, net.Netlink(netns) as there:
            here.batch(
                [rtnl.veth("kit-out", "eth0", netns=netns), rtnl.set_link("kit-out", up=True)]
            )
            stack.callback(_unlink, "kit-out")
            _address(here, "kit-out", HOST_ADDRESS, HOST_ADDRESS6)
            there.batch([rtnl.set_link("eth0", up=True)])
            _address(there, "eth0", OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6)
            for to in ("default", *towards):
                gateways = (HOST_ADDRESS, HOST_ADDRESS6) if to == "default" else (
                    (HOST_ADDRESS6,) if ":" in to else (HOST_ADDRESS,)
                )  # fmt: skip
                there.batch([rtnl.new_route(to, gateway) for gateway in gateways])
        yield netns


def _address(channel: net.Netlink, link: str, first: str, second: str) -> None:
    index = channel.index(link)
    channel.batch([rtnl.new_address(index, f"{first}/24"), rtnl.new_address(index, f"{second}/64")])


def tether(netns: int) -> Callable[[], None]:
    """Tie a link of the kit's to a sandbox; the answer waits until the sandbox is no more."""
    with net.Netlink() as channel:
        channel.batch([rtnl.veth("kit-tether", "kit-end", netns=netns)])

    def ended() -> None:
        end = time.monotonic() + REACHED_SECONDS
        while "kit-tether" in look().links:
            assert time.monotonic() < end, "the sandbox does not end: who holds it?"
            time.sleep(0.01)
        with net.Netlink() as channel:
            # It waits for the lock of all links, under which the others go too.
            channel.batch([rtnl.set_link("lo", up=True)])

    return ended


def _unlink(name: str) -> None:
    with net.Netlink() as channel:
        channel.batch([rtnl.delete_link(name)])


def route_by(netns: int, to: str, gateway: str) -> bool:
    """Make a route in a sandbox, as whoever is root in it may; False: there is no way there."""
    with net.Netlink(netns) as channel:
        try:
            channel.batch([rtnl.new_route(to, gateway)])
        except net.NetlinkError:
            return False
    return True


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket(netns: int, address: str, kind: int) -> socket.socket:
    if netns == HERE:
        return socket.socket(_family(address), kind)
    return socket.socket(fileno=net.socket_in(netns, _family(address), kind))


@contextmanager
def serving(
    netns: int, port: int, address: str = "0.0.0.0", *, udp: bool = False
) -> Iterator[Door]:
    """Listen in a namespace."""
    with _socket(netns, address, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((address, port))
        if not udp:
            door.listen(16)
        yield Door(door, udp)


class Door:
    """A listening socket, and what comes to it."""

    def __init__(self, door: socket.socket, udp: bool) -> None:
        self._door, self._udp = door, udp

    def visited_from(self, netns: int, address: str, port: int, data: bytes = b"word") -> str:
        """Send from ``netns``, get an answer, and return the address that it seems to come from.

        Raises:
            OSError: it did not arrive, or the answer did not.
        """
        return self._visit(netns, address, port, data, REACHED_SECONDS)

    def reachable(self, netns: int, address: str, port: int) -> bool:
        """Does anything arrive? Waits :data:`ABSENT_SECONDS` for what does not."""
        try:
            self._visit(netns, address, port, b"word", ABSENT_SECONDS)
        except OSError:
            return False
        return True

    def _visit(self, netns: int, address: str, port: int, data: bytes, seconds: float) -> str:
        kind = socket.SOCK_DGRAM if self._udp else socket.SOCK_STREAM
        with _socket(netns, address, kind) as guest:
            guest.settimeout(seconds)
            self._door.settimeout(seconds)
            guest.connect((address, port))
            if self._udp:
                guest.send(data)
                got, peer = self._door.recvfrom(len(data))
                assert got == data
                self._door.sendto(data, peer)
                assert guest.recv(len(data)) == data
                return str(peer[0])
            inside, peer = self._door.accept()
            with inside:
                inside.settimeout(seconds)
                exchange(guest, inside, data)
            return str(peer[0])

    @contextmanager
    def connected(
        self, netns: int, address: str, port: int
    ) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Give both ends of a connection that stays."""
        with _socket(netns, address, socket.SOCK_STREAM) as guest:
            guest.settimeout(REACHED_SECONDS)
            self._door.settimeout(REACHED_SECONDS)
            guest.connect((address, port))
            inside, _ = self._door.accept()
            with inside:
                inside.settimeout(REACHED_SECONDS)
                yield guest, inside


def exchange(one: socket.socket, other: socket.socket, data: bytes) -> None:
    """Send data there and back, in pieces that no socket is too small for."""
    for start in range(0, len(data), 1 << 15):
        piece = data[start : start + (1 << 15)]
        for giver, taker in ((one, other), (other, one)):
            giver.sendall(piece)
            got = b""
            while len(got) < len(piece):
                more = taker.recv(len(piece) - len(got))
                if not more:
                    raise ConnectionError("the connection ended")
                got += more
            assert got == piece
