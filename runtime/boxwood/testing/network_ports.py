"""Laws of published ports, for drivers that claim to publish them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from boxwood.drivers.network import (
    MULTIPLE,
    PRESERVES_SOURCE_IP,
    PUBLISHES_PORTS,
    Attachment,
    NetworkSpec,
    PortRequest,
)
from boxwood.errors import Unsupported
from boxwood.testing import network_world as world
from boxwood.testing.network_kit import Bed, Member, NetworkKit, port, run


@contextmanager
def held(ports: Sequence[PortRequest]) -> Iterator[None]:
    """Hold a socket on each host port, as the core does; nobody answers there."""
    with ExitStack() as stack:
        for one in ports:
            kind = socket.SOCK_DGRAM if one.protocol == "udp" else socket.SOCK_STREAM
            family = socket.AF_INET6 if ":" in one.host_ip else socket.AF_INET
            place = stack.enter_context(socket.socket(family, kind))
            place.bind((one.host_ip, one.host_port))
        yield


class PortLaws(NetworkKit):
    """A published port leads to the sandbox, as it was published and no further."""

    @pytest.fixture
    def network(self, bed: Bed) -> NetworkSpec:
        """A network whose driver publishes ports."""
        network = bed.network()
        bed.need_ports(network)
        return network

    def publish(self, bed: Bed, network: NetworkSpec, *ports: PortRequest) -> Member:
        """Attach a sandbox with ports; those with IPv4 addresses must be led there."""
        member = bed.join(network, ports=ports)
        assert set(member.made.ports) == set(ports)
        return member

    def test_none_are_led_by_who_publishes_none(self, bed: Bed) -> None:
        """Without the capability the attachment says so, and the core serves them."""
        network = bed.network()
        if PUBLISHES_PORTS in bed.driver.capabilities:
            pytest.skip("the driver publishes ports")
        assert bed.join(network, ports=(port(80),)).made.ports == ()

    def test_ports_left_to_the_core(self, bed: Bed) -> None:
        """Who claims to publish but leads none has sandboxes that the core reaches."""
        network = bed.network()
        bed.need(PUBLISHES_PORTS)
        member = bed.join(network, ports=(port(80),))
        if member.made.ports:
            pytest.skip("the driver leads them")
        assert PRESERVES_SOURCE_IP not in bed.driver.capabilities
        with world.serving(member.netns, 80) as door:
            door.visited_from(world.HERE, member.address, 80)

    @pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
    def test_a_port_leads_there(self, bed: Bed, network: NetworkSpec, udp: bool) -> None:
        """From outside, from the host by each of its addresses, from neighbours and itself."""
        ports = (port(80, udp=udp), port(81, udp=udp))
        with held(ports), world.outside() as far:
            member = self.publish(bed, network, *ports)
            near = bed.join(network)
            callers = [
                (far, world.HOST_ADDRESS), (world.HERE, world.HOST_ADDRESS),
                (world.HERE, "127.0.0.1"), (near.netns, world.HOST_ADDRESS),
                (member.netns, world.HOST_ADDRESS),
            ]  # fmt: skip
            if MULTIPLE in bed.driver.capabilities:
                callers.append((bed.join(bed.network(1)).netns, world.HOST_ADDRESS))
            for inside in (80, 81):
                with world.serving(member.netns, inside, udp=udp) as door:
                    for netns, address in callers:
                        door.visited_from(netns, address, 20000 + inside)

    @pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
    def test_the_source_is_kept(self, bed: Bed, network: NetworkSpec, udp: bool) -> None:
        """Where it is claimed, the sandbox sees who speaks to it from outside."""
        bed.need(PRESERVES_SOURCE_IP)
        with world.outside() as far:
            member = self.publish(bed, network, port(80, udp=udp))
            with world.serving(member.netns, 80, udp=udp) as door:
                seen = door.visited_from(far, world.HOST_ADDRESS, 20080)
        assert seen == world.OUTSIDE_ADDRESS

    def test_an_address_of_the_host_is_that_one(self, bed: Bed, network: NetworkSpec) -> None:
        """A port on one address is not on another; on the loopback it is nowhere else."""
        loopback, outer = port(80, ip="127.0.0.1"), port(81, ip=world.HOST_ADDRESS)
        with world.outside() as far:
            member = self.publish(bed, network, loopback, outer)
            with world.serving(member.netns, 80) as door:
                door.visited_from(world.HERE, "127.0.0.1", 20080)
                assert not door.reachable(far, world.HOST_ADDRESS, 20080)
                assert not door.reachable(world.HERE, world.HOST_ADDRESS, 20080)
                world.route_by(far, "127.0.0.0/8", world.HOST_ADDRESS)
                assert not door.reachable(far, "127.0.0.1", 20080)
            with world.serving(member.netns, 81) as door:
                door.visited_from(far, world.HOST_ADDRESS, 20081)
                assert not door.reachable(world.HERE, "127.0.0.1", 20081)

    def test_two_share_a_number(self, bed: Bed, network: NetworkSpec) -> None:
        """The same port of two sandboxes, and of two protocols, leads to each."""
        with world.outside() as far:
            one = self.publish(bed, network, port(80, 1080), port(80, 1080, udp=True))
            two = self.publish(bed, network, port(80, 1081))
            for member, host_port, udp in (
                (one, 1080, False),
                (two, 1081, False),
                (one, 1080, True),
            ):
                with world.serving(member.netns, 80, udp=udp) as door:
                    door.visited_from(far, world.HOST_ADDRESS, host_port)

    def test_detached_it_leads_nowhere(self, bed: Bed, network: NetworkSpec) -> None:
        """Whether the sandbox lives on or is gone; and the number may be another's."""
        with world.outside() as far:
            for going in (False, True):
                member = self.publish(bed, network, port(80))
                with world.serving(member.netns, 80) as door:
                    door.visited_from(far, world.HOST_ADDRESS, 20080)
                    if going:
                        os.close(member.netns)
                    bed.leave(member, going=going)
                    assert not door.reachable(far, world.HOST_ADDRESS, 20080)
            heir = self.publish(bed, network, port(8080, 20080))
            with world.serving(heir.netns, 8080) as door:
                door.visited_from(far, world.HOST_ADDRESS, 20080)

    def test_update_interrupts_nobody(self, bed: Bed, network: NetworkSpec) -> None:
        """Ports come and go; who is connected through one that stays does not notice."""
        first, more = port(80), port(81)
        with world.outside() as far:
            member = self.publish(bed, network, first)
            gateways = member.made.gateways

            def change(made: Attachment, *ports: PortRequest) -> Attachment:
                work = bed.driver.update(made, member.netns, gateways=gateways, ports=ports)
                return run(work)

            with (
                world.serving(member.netns, 80) as door,
                world.serving(member.netns, 81) as second,
                door.connected(far, world.HOST_ADDRESS, 20080) as (guest, inside),
            ):
                try:
                    made = change(member.made, first, more)
                except Unsupported:
                    pytest.skip("the driver cannot change what is attached")
                assert set(made.ports) == {first, more}
                world.exchange(guest, inside, b"still there")
                second.visited_from(far, world.HOST_ADDRESS, 20081)
                made = change(made, first)
                world.exchange(guest, inside, b"still there")
                assert not second.reachable(far, world.HOST_ADDRESS, 20081)
                door.visited_from(far, world.HOST_ADDRESS, 20080)
                change(made)
                assert not door.reachable(far, world.HOST_ADDRESS, 20080)

    def test_it_works_on_after_a_restart(self, bed: Bed, network: NetworkSpec) -> None:
        """Neither the engine's end nor its return is noticed by who is connected."""
        with world.outside() as far:
            member = self.publish(bed, network, port(80))
            with (
                world.serving(member.netns, 80) as door,
                door.connected(far, world.HOST_ADDRESS, 20080) as (guest, inside),
            ):
                driver = bed.restart()
                door.visited_from(far, world.HOST_ADDRESS, 20080)
                run(driver.create_network(network))
                assert run(driver.reconcile([member.made])) == []
                world.exchange(guest, inside, b"still there")
                door.visited_from(far, world.HOST_ADDRESS, 20080)
                # Not wanted any more, it goes.
                assert run(driver.reconcile([])) != []
                assert not door.reachable(far, world.HOST_ADDRESS, 20080)
