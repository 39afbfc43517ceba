"""What the laws of the network kit stand on: a driver on a host of its own, and its sandboxes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec
import pytest

from boxwood.drivers import manager
from boxwood.drivers.network import (
    MULTIPLE,
    NEW,
    OWN_ADDRESSES,
    PUBLISHES_PORTS,
    Attachment,
    EndpointRequest,
    NetworkDriver,
    NetworkSpec,
    Pool,
    PortRequest,
)
from boxwood.errors import BoxwoodError, InvalidArgument, Unsupported
from boxwood.testing import network_world as world
from boxwood_ext import net

T = TypeVar("T")
OPTION_PREFIX = "network."
"""Of an option on the command line that is the network's, not the driver's."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


class Member(NamedTuple):
    """A sandbox with its place in a network."""

    netns: int
    request: EndpointRequest
    made: Attachment

    @property
    def address(self) -> str:
        """Its first IPv4 address, without the prefix length."""
        return next(text for text in self.plain if ":" not in text)

    @property
    def address6(self) -> str:
        """Its first IPv6 address, without the prefix length."""
        return next(text for text in self.plain if ":" in text)

    @property
    def plain(self) -> list[str]:
        """Its addresses without their prefix lengths."""
        return [text.partition("/")[0] for text in self.made.addresses]


class Bed:
    """A driver, its networks and sandboxes; all that a law makes through it is unmade."""

    def __init__(self, suite: NetworkKit, root: Path, stack: ExitStack) -> None:
        self._suite, self.root, self._stack = suite, root, stack
        self._count = 1
        self.driver = suite.make(root)

    # Networks

    def spec(self, number: int = 0, *, ipv6: bool = False, internal: bool = False) -> NetworkSpec:
        """Return what a client asks for."""
        subnet = f"10.213.{77 + number}"
        pools = [Pool(subnet=f"{subnet}.0/24", gateway=f"{subnet}.1")]
        if ipv6:
            pools.append(Pool(subnet=f"fd00:b{number}::/64", gateway=f"fd00:b{number}::1"))
        return NetworkSpec(
            id=f"b{number}" * 32,
            name=f"kit{number}",
            options=dict(self._suite.options_of_network(number)),
            pools=tuple(pools),
            ipv6=ipv6,
            internal=internal,
        )

    def network(
        self, number: int = 0, *, ipv6: bool = False, internal: bool = False
    ) -> NetworkSpec:
        """Make a network; a driver that has none to make is not asked."""
        asked = self.spec(number, ipv6=ipv6, internal=internal)
        try:
            found = self.driver.defaults(asked)
        except Unsupported as error:
            if ipv6 or internal or number:
                pytest.skip(f"the driver refuses it: {error}")
            return asked
        except InvalidArgument as error:
            if not (ipv6 or internal):
                raise
            pytest.skip(f"the driver refuses it: {error}")
        self._stack.callback(self._removed, found)
        run(self.driver.create_network(found))
        return found

    def _removed(self, network: NetworkSpec) -> None:
        run(self.driver.remove_network(network))

    # Sandboxes

    def sandbox(self) -> int:
        """Make a network namespace with its loopback up; it goes with the law."""
        netns = net.make_namespace()
        self._stack.callback(_closed, netns)
        return netns

    def ask(self, network: NetworkSpec, **changes: Any) -> EndpointRequest:
        """Return what one more sandbox asks of a network."""
        self._count += 1
        number = self._count
        own = OWN_ADDRESSES in self.driver.capabilities
        whole = EndpointRequest(
            sandbox=f"{number:02x}5a" * 16,
            network=network.id,
            endpoint=f"{number:02x}e0" * 16,
            mode=self._suite.mode,
            addresses=()
            if own
            else tuple(_numbered(pool.subnet, number) for pool in network.pools),
            gateways=() if own else tuple(pool.gateway for pool in network.pools),
            options=dict(self._suite.endpoint_options),
        )
        return msgspec.structs.replace(whole, **changes)

    def join(self, network: NetworkSpec, netns: int | None = None, **changes: Any) -> Member:
        """Attach a sandbox, a new one where none is given."""
        request = self.ask(network, **changes)
        self.need_attaching(request)
        netns = self.sandbox() if netns is None else netns
        made = run(self.driver.attach(request, netns))
        self._stack.callback(self._detached, made)
        return Member(netns, request, made)

    def need_attaching(self, request: EndpointRequest) -> None:
        """Leave the law out where the driver connects nothing."""
        if self.driver.namespace(request).kind != NEW:
            pytest.skip("the driver attaches nothing to a namespace that is somebody else's")
        if type(self.driver).attach is NetworkDriver.attach:
            pytest.skip("the driver attaches nothing")

    def need(self, capability: str) -> None:
        """Leave the law out where the driver does not claim it."""
        if capability not in self.driver.capabilities:
            pytest.skip(f"the driver does not claim {capability}")

    def need_ports(self, network: NetworkSpec) -> None:
        """Leave the law out where the driver leads no ports itself."""
        self.need(PUBLISHES_PORTS)
        member = self.join(network, ports=(port(1),))
        self.leave(member)
        if not member.made.ports:
            pytest.skip("the driver leaves published ports to the core")

    def need_multiple(self) -> None:
        """Leave the law out where a sandbox has one network of the driver."""
        self.need(MULTIPLE)

    def leave(self, member: Member, *, going: bool = False) -> None:
        """Detach; with ``going`` the sandbox is gone, else it lives on."""
        run(self.driver.detach(member.made, None if going else member.netns))

    def _detached(self, made: Attachment) -> None:
        run(self.driver.detach(made))

    def restart(self) -> NetworkDriver:
        """Be the engine after its start: a new driver on the same root."""
        self.driver = self._suite.make(self.root)
        return self.driver


def port(number: int, host_port: int = 0, *, udp: bool = False, ip: str = "0.0.0.0") -> PortRequest:
    """Return a published port; the host's is 20000 higher unless it is said."""
    return PortRequest(number, "udp" if udp else "tcp", ip, host_port or 20000 + number)


def refusal(work: Coroutine[Any, Any, Any]) -> BoxwoodError | None:
    """Return the error that an operation ends with; one of another class is the law's failure."""
    try:
        run(work)
    except BoxwoodError as error:
        return error
    return None


def _closed(netns: int) -> None:
    try:
        os.close(netns)
    except OSError:  # the law has closed it: its sandbox was to go
        pass


def _numbered(subnet: str, number: int) -> str:
    start, _, length = subnet.partition("/")
    # Of both families: ten fewer than 250 sandboxes are asked for.
    return f"{start[:-1] if not start.endswith('::') else start}{number}/{length}"


class NetworkKit:
    """The fixtures and helpers of the laws. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}
    """Those that begin with ``network.`` are given, without it, to the networks that are made."""
    endpoint_options: ClassVar[Mapping[str, str]] = {}
    mode: ClassVar[str] = "kit"
    """The network mode that leads to this driver."""

    def prepare(self) -> None:
        """Bring about what the driver needs on its host (a parent link); called once there."""

    def options_of_network(self, number: int) -> Mapping[str, str]:  # noqa: ARG002
        """Return the options of the network of this number."""
        return {
            key.removeprefix(OPTION_PREFIX): value
            for key, value in self.driver_options.items()
            if key.startswith(OPTION_PREFIX)
        }

    def make(self, root: Path) -> NetworkDriver:
        """Make the driver, as the engine would after a start."""
        options = {
            key: value
            for key, value in self.driver_options.items()
            if not key.startswith(OPTION_PREFIX)
        }
        driver = manager.select("network", self.driver_name, root=root, options=options)
        assert isinstance(driver, NetworkDriver)
        return driver

    @pytest.fixture
    def bed(self, tmp_path: Path) -> Iterator[Bed]:
        """A fresh driver on a fresh host; what it leaves there after a test is an error."""
        with world.host():
            self.prepare()
            before = world.look()
            with ExitStack() as stack:
                yield Bed(self, tmp_path / "network", stack)
            left = settled(before)
            assert not left, f"left behind by the driver: {left}"


def settled(before: world.Sight) -> list[str]:
    """Return what is on the host and was not before, once what ends by itself has ended."""
    import time

    end = time.monotonic() + world.REACHED_SECONDS
    while (left := compared(before, world.look())) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def compared(before: world.Sight, after: world.Sight) -> list[str]:
    """Name what differs, one line each."""
    told = [f"link {name}" for name in sorted(after.names() - before.names())]
    told += [f"link {name} is gone" for name in sorted(before.names() - after.names())]
    for name in sorted(before.names() & after.names()):
        changed = before.addresses[name] ^ after.addresses[name]
        told += [f"address {text} of {name}" for text in sorted(changed)]
    told += [f"route {' '.join(route)}" for route in sorted(before.routes ^ after.routes)]
    return told
