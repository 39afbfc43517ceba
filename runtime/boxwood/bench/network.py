"""The network bench: what containers ask of a network driver, timed.

Every driver that is installed can be named, a stranger's too. It works on a host of its own (a
network namespace, as in the conformance kit), so nothing of the machine's network is touched, or in
the way. Traffic is sent and received by threads of this process, which wait without the GIL.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from boxwood.bench.frame import Case, Scenario
from boxwood.drivers import manager
from boxwood.drivers.network import (
    HOST,
    NEW,
    OWN_ADDRESSES,
    Attachment,
    EndpointRequest,
    NetworkDriver,
    NetworkSpec,
    Pool,
    PortRequest,
)
from boxwood.errors import Unsupported
from boxwood.testing import network_world as world
from boxwood_ext import net

_PORT, _HOST_PORT = 4000, 24000
_SECONDS = 30.0
_PIECE = 1 << 18
"""Bytes of one send: what a program that is quick about it takes."""


class Shape(NamedTuple):
    """How much is done for one value."""

    trips: int = 2000
    bytes: int = 1 << 30
    connections: int = 2000
    sandboxes: int = 16


QUICK = Shape(300, 1 << 26, 200, 8)


class Place(NamedTuple):
    """A sandbox in the network: its namespace, and the address it is reached at."""

    netns: int
    address: str
    made: Attachment | None = None


class Bed:
    """One driver with a network in which two sandboxes stay, a server and a client."""

    def __init__(self, driver: NetworkDriver, shape: Shape) -> None:
        self.driver, self.shape = driver, shape
        self.network = NetworkSpec(id="be" * 32, name="bench")
        self._count = 0
        self.server = self.client = Place(world.HERE, "127.0.0.1")
        self.outside = -1

    @property
    def alone(self) -> bool:
        """Do the sandboxes have namespaces of their own?"""
        return self.server.netns != world.HERE

    async def join(self, *ports: PortRequest) -> Place:
        """Attach one more sandbox."""
        netns = await asyncio.to_thread(net.make_namespace)
        try:
            made = await self.driver.attach(self.request(*ports), netns)
        except BaseException:
            os.close(netns)
            raise
        return Place(netns, made.addresses[0].partition("/")[0], made)

    def request(self, *ports: PortRequest) -> EndpointRequest:
        """Return what one more sandbox asks for."""
        self._count += 1
        number = self._count + 1
        own = OWN_ADDRESSES in self.driver.capabilities
        digits = f"{number:04x}"
        return EndpointRequest(
            sandbox=digits * 16, network=self.network.id, endpoint=digits * 16, mode="bench",
            addresses=() if own else (f"10.213.{number >> 8}.{number & 255}/16",),
            gateways=() if own else ("10.213.0.1",),
            ports=ports,
        )  # fmt: skip

    async def leave(self, place: Place) -> None:
        """Let a sandbox end."""
        if place.made is not None:
            os.close(place.netns)
            await self.driver.detach(place.made)

    async def start(self) -> None:
        """Make the network, and the two; raises what the driver says of it."""
        kind = self.driver.namespace(EndpointRequest(sandbox="0" * 64, mode="bench")).kind
        if kind == HOST:
            return
        if kind != NEW or type(self.driver).attach is NetworkDriver.attach:
            raise Unsupported("it connects nothing that could be measured")
        pools = (Pool(subnet="10.213.0.0/16", gateway="10.213.0.1"),)
        self.network = self.driver.defaults(msgspec.structs.replace(self.network, pools=pools))
        await self.driver.create_network(self.network)
        self.server = await self.join(PortRequest(_PORT, "tcp", "0.0.0.0", _HOST_PORT))
        self.client = await self.join()

    async def end(self) -> None:
        """Take all away."""
        for place in (self.server, self.client):
            await self.leave(place)
        if self.alone:
            await self.driver.remove_network(self.network)


@asynccontextmanager
async def bed(name: str, root: Path, shape: Shape, outside: int) -> AsyncIterator[Bed]:
    """Load the driver ``name``, make its network, and take all away afterwards.

    Raises:
        BoxwoodError: it is not installed, or cannot work here.
    """
    made = Bed(manager.select("network", name, root=root, options={}), shape)
    made.outside = outside
    try:
        await made.start()
        yield made
    finally:
        await made.end()


class Line(NamedTuple):
    """From where to where traffic goes."""

    netns: int
    address: str
    port: int


def _near(bed: Bed) -> Line:
    return Line(bed.client.netns, bed.server.address, _PORT)


def _through_port(bed: Bed) -> Line:
    return Line(bed.outside, world.HOST_ADDRESS, _HOST_PORT)


def _door(bed: Bed) -> socket.socket:
    door = _socket(bed.server.netns)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("0.0.0.0", _PORT))
    door.listen(1024)
    return door


def _socket(netns: int) -> socket.socket:
    fd = -1 if netns == world.HERE else net.socket_in(netns, socket.AF_INET, socket.SOCK_STREAM)
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM) if fd < 0 else socket.socket(fileno=fd)
    made.settimeout(_SECONDS)
    return made


def _serve(door: socket.socket, serve: Callable[[socket.socket], None], times: int) -> None:
    try:
        for _ in range(times):
            inside, _ = door.accept()
            with inside:
                inside.settimeout(_SECONDS)
                serve(inside)
    except OSError:  # the client has failed, and tells
        return


def _timed(
    bed: Bed, line: Line, serve: Callable[[socket.socket], None],
    ask: Callable[[socket.socket], None], times: int,
) -> float:  # fmt: skip
    """Connect ``times``, serve in a thread and ask in this one; returns the seconds of it."""
    with _door(bed) as door:
        server = threading.Thread(target=_serve, args=(door, serve, times), daemon=True)
        server.start()
        try:
            began = time.perf_counter()
            for _ in range(times):
                with _socket(line.netns) as guest:
                    guest.connect((line.address, line.port))
                    ask(guest)
            return time.perf_counter() - began
        finally:
            door.shutdown(socket.SHUT_RDWR)
            server.join(_SECONDS)


async def _latency(bed: Bed, way: Callable[[Bed], Line]) -> float:
    trips = bed.shape.trips

    def serve(inside: socket.socket) -> None:
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while inside.recv(1):
            inside.send(b"x")

    def ask(guest: socket.socket) -> None:
        guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(trips):
            guest.send(b"x")
            guest.recv(1)

    return await asyncio.to_thread(_timed, bed, way(bed), serve, ask, 1) / trips


async def _transfer(bed: Bed, way: Callable[[Bed], Line]) -> float:
    data, buffer = bytes(_PIECE), bytearray(_PIECE)

    def serve(inside: socket.socket) -> None:
        left = bed.shape.bytes
        while left > 0 and (got := inside.recv_into(buffer)):
            left -= got
        inside.send(b"x")

    def ask(guest: socket.socket) -> None:
        for _ in range(bed.shape.bytes // _PIECE):
            guest.sendall(data)
        guest.recv(1)

    seconds = await asyncio.to_thread(_timed, bed, way(bed), serve, ask, 1)
    return seconds * (1 << 30) / bed.shape.bytes


async def _connections(bed: Bed, way: Callable[[Bed], Line]) -> float:
    count = bed.shape.connections
    line = way(bed)

    def serve(inside: socket.socket) -> None:
        inside.recv(1)
        inside.send(b"x")

    def ask(guest: socket.socket) -> None:
        guest.send(b"x")
        guest.recv(1)

    return await asyncio.to_thread(_timed, bed, line, serve, ask, count) / count


async def _attach(bed: Bed) -> float:
    netns = await asyncio.to_thread(net.make_namespace)
    began = time.perf_counter()
    made = await bed.driver.attach(bed.request(PortRequest(80, "tcp", "0.0.0.0", 24001)), netns)
    took = time.perf_counter() - began
    await bed.leave(Place(netns, "", made))
    return took


async def _detach(bed: Bed) -> float:
    place = await bed.join(PortRequest(80, "tcp", "0.0.0.0", 24001))
    os.close(place.netns)
    assert place.made is not None
    began = time.perf_counter()
    await bed.driver.detach(place.made)
    return time.perf_counter() - began


async def _at_once(bed: Bed) -> float:
    count = bed.shape.sandboxes
    spaces = [await asyncio.to_thread(net.make_namespace) for _ in range(count)]
    wanted = [(bed.request(), netns) for netns in spaces]
    began = time.perf_counter()
    made = await asyncio.gather(*(bed.driver.attach(*one) for one in wanted))
    took = time.perf_counter() - began
    for netns, attachment in zip(spaces, made, strict=True):
        await bed.leave(Place(netns, "", attachment))
    return took


_Way = Callable[[Bed, Callable[[Bed], Line]], Awaitable[float]]
_TRAFFIC: tuple[tuple[str, str, _Way], ...] = (
    ("latency", "A byte there and back", _latency),
    ("transfer", "1 GiB in one stream", _transfer),
    ("connections", "A connection made, used and closed", _connections),
)


def cases(subject: str, bed: Bed) -> list[Case]:
    """Return the cases of a bed; those of ports where the driver leads them itself."""
    found = []
    if bed.alone:
        found = [
            Case(Scenario("attach", "Attach a sandbox with a port"), subject,
                 functools.partial(_attach, bed)),
            Case(Scenario("detach", "Detach one that has ended"), subject,
                 functools.partial(_detach, bed)),
            Case(Scenario("at-once", f"Attach {bed.shape.sandboxes} side by side"), subject,
                 functools.partial(_at_once, bed)),
        ]  # fmt: skip
    for name, title, work in _TRAFFIC:
        scenario = Scenario(name, f"{title}, between sandboxes")
        found.append(Case(scenario, subject, functools.partial(work, bed, _near)))
    if bed.server.made is not None and bed.server.made.ports:
        for name, title, work in _TRAFFIC:
            scenario = Scenario(f"port-{name}", f"{title}, from outside through a published port")
            found.append(Case(scenario, subject, functools.partial(work, bed, _through_port)))
    return found
