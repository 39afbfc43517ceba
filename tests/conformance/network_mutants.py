"""Good network drivers with a fault in each: what the network kit must catch.

Not collected by itself: test_mutants.py runs the kit on each of these.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from boxwood.drivers.network import (
    PUBLISHES_PORTS,
    Attachment,
    EndpointRequest,
    NetworkDriver,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import BoxwoodError, Conflict
from boxwood.testing import network_world as world
from boxwood.testing.network import NetworkSuite
from boxwood_ext import net, rtnl
from boxwood_plugins.network.bridge.driver import BridgeNetwork
from boxwood_plugins.network.macvlan import MacvlanDriver

MUTANTS: dict[str, tuple[type[NetworkDriver], str]] = {}
"""By name: the driver, and a part of the name of the law that should catch it (tried first)."""

replace = msgspec.structs.replace


def planted(law: str) -> Callable[[type[Any]], type[Any]]:
    """Register a mutant."""

    def register(driver: type[Any]) -> type[Any]:
        MUTANTS[driver.__name__] = (driver, law)
        return driver

    return register


def links(*messages: bytes, netns: int = -1) -> None:
    with net.Netlink(netns) as channel:
        channel.batch(messages)


class Asking(BridgeNetwork):
    """Asks for something else than it was asked, and tells what it was asked."""

    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return request

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        made = await super().attach(self.altered(request), netns)
        return replace(
            made, interface=request.interface, addresses=request.addresses,
            gateways=request.gateways, ports=request.ports,
            mac_address=request.mac_address or made.mac_address,
        )  # fmt: skip


@planted("interface_is_there")
class InterfaceIgnored(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, interface="eth0")


@planted("mac_address")
class MacIgnored(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, mac_address="")


@planted("interface_is_there")
class MacMadeUp(BridgeNetwork):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        return replace(await super().attach(request, netns), mac_address="02:00:00:00:00:01")


@planted("mac_address")
class OneMacForAll(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, mac_address=request.mac_address or "02:00:00:00:00:01")


@planted("both_families")
class SecondFamilyDropped(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, addresses=request.addresses[:1])


@planted("default_route")
class RouteToldNotMade(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, gateways=())


@planted("no_gateway")
class RouteMadeUnasked(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        first = request.addresses[0].rpartition(".")[0]
        return replace(request, gateways=request.gateways or (f"{first}.1",))


@planted("a_port_leads_there[udp]")
class DatagramsForgotten(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, ports=tuple(p for p in request.ports if p.protocol == "tcp"))


@planted("an_address_of_the_host")
class PublishedEverywhere(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, ports=tuple(replace(p, host_ip="0.0.0.0") for p in request.ports))


@planted("unknown_option")
class OptionsOfEndpointsIgnored(Asking):
    def altered(self, request: EndpointRequest) -> EndpointRequest:
        return replace(request, options={})


@planted("unknown_option_is_refused")
class OptionsIgnored(BridgeNetwork):
    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        return super().defaults(replace(network, options={}))


@planted("defaults_are_pure")
class DefaultsMakeSomething(BridgeNetwork):
    def defaults(self, network: NetworkSpec) -> NetworkSpec:
        links(rtnl.new_link(f"x-{os.urandom(4).hex()}", "bridge"))
        return super().defaults(network)


@planted("made_and_removed_once")
class MadeOnce(BridgeNetwork):
    async def create_network(self, network: NetworkSpec) -> None:
        if network.id in self._networks:
            raise Conflict(f"create network: {network.name}: is there")
        await super().create_network(network)


@planted("made_and_removed_once")
class NeverRemoved(BridgeNetwork):
    async def remove_network(self, network: NetworkSpec) -> None:
        return


@planted("detach_of_one_that_lives_on")
class LeavesTheLink(BridgeNetwork):
    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        await super().detach(attachment, None)


@planted("detached_it_leads_nowhere")
class LeavesThePorts(BridgeNetwork):
    async def detach(self, attachment: Attachment, netns: int | None = None) -> None:
        if netns is not None:
            links(rtnl.delete_link(attachment.interface), netns=netns)


@planted("crash_leaves_nothing")
class ReconcileForgets(BridgeNetwork):
    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        return await super().reconcile([])


@planted("sandboxes_that_ended")
class ReconcileKeepsAll(BridgeNetwork):
    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        return []


@planted("crash_leaves_nothing")
class ReconcileChatters(BridgeNetwork):
    async def reconcile(self, wanted: Iterable[Attachment]) -> list[str]:
        return [*await super().reconcile(wanted), "all is well"]


@planted("update_interrupts")
class UpdateForgets(BridgeNetwork):
    async def update(
        self, attachment: Attachment, netns: int, *,
        gateways: tuple[str, ...], ports: tuple[PortRequest, ...],
    ) -> Attachment:  # fmt: skip
        return replace(attachment, gateways=gateways, ports=ports)


@planted("update_interrupts")
class UpdateStartsAnew(BridgeNetwork):
    """A link and another: who is connected notices."""

    async def update(
        self, attachment: Attachment, netns: int, *,
        gateways: tuple[str, ...], ports: tuple[PortRequest, ...],
    ) -> Attachment:  # fmt: skip
        found = await super().update(attachment, netns, gateways=gateways, ports=ports)
        subprocess.run(["nft", "flush", "ruleset"], check=True)  # noqa: ASYNC221
        links(rtnl.delete_link(attachment.interface), netns=netns)
        return found


@planted("guard_restores")
class GuardAsleep(BridgeNetwork):
    async def guard(self, tell: Callable[[str], None]) -> None:
        await asyncio.Event().wait()


@planted("guard_restores")
class GuardSilent(BridgeNetwork):
    async def guard(self, tell: Callable[[str], None]) -> None:
        await super().guard(lambda _: None)


@planted("internal_is_closed")
class InternalIsOpen(BridgeNetwork):
    async def create_network(self, network: NetworkSpec) -> None:
        await super().create_network(replace(network, internal=False))


@planted("broken_namespace")
class PlainErrors(BridgeNetwork):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        try:
            return await super().attach(request, netns)
        except BoxwoodError as error:
            raise OSError(5, str(error)) from error


@planted("interface_is_taken")
class ErrorsLeaveSomething(BridgeNetwork):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        name = f"x-{os.urandom(4).hex()}"
        links(rtnl.new_link(name, "bridge"))
        made = await super().attach(request, netns)
        links(rtnl.delete_link(name))
        return made


@planted("crash_at_any_call[attach]")
class CrashesLeaveSomething(BridgeNetwork):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        name = f"x-{os.urandom(4).hex()}"
        links(rtnl.new_link(name, "bridge"))
        try:
            return await super().attach(request, netns)
        finally:
            links(rtnl.delete_link(name))


@planted("nothing_accumulates")
class LeaksDescriptors(BridgeNetwork):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        os.open("/dev/null", os.O_RDONLY)
        return await super().attach(request, netns)


@planted("many_at_once")
class OneAtATime(MacvlanDriver):
    """What two ask for at once is mixed up."""

    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        self._asked = request
        await asyncio.sleep(0)
        return await super().attach(self._asked, netns)


@planted("ports_left_to_the_core")
class ClaimsPorts(MacvlanDriver):
    capabilities = frozenset({*MacvlanDriver.capabilities, PUBLISHES_PORTS})


@planted("none_are_led")
class TellsPorts(MacvlanDriver):
    async def attach(self, request: EndpointRequest, netns: int) -> Attachment:
        return replace(await super().attach(request, netns), ports=request.ports)


@planted("source_is_kept")
class SourceLost(BridgeNetwork):
    async def create_network(self, network: NetworkSpec) -> None:
        await super().create_network(network)
        subprocess.run(  # noqa: ASYNC221
            ["nft", "-f", "-"], check=True, text=True,
            input="table ip x { chain p { type nat hook postrouting priority 90;\n"
            'oifname "br-*" masquerade; } }\n',
        )  # fmt: skip


@planted("another_engine")
class OneTagForAll(MacvlanDriver):
    def __init__(self, root: Path) -> None:
        super().__init__()


class _Mutated(NetworkSuite):
    """The kit on one of them."""

    __test__ = False
    mutant: ClassVar[type[Any]]
    law: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(world, "REACHED_SECONDS", 2.0)

    def make(self, root: Path) -> NetworkDriver:
        driver: NetworkDriver = (
            self.mutant(root) if issubclass(self.mutant, MacvlanDriver) else self.mutant(root, {})
        )
        return driver


for _name, (_driver, _law) in MUTANTS.items():
    globals()[f"Test{_name}"] = type(
        f"Test{_name}", (_Mutated,), {"__test__": True, "mutant": _driver, "law": _law}
    )
