"""Laws of what a sandbox has then: its link, addresses, routes, and whom it reaches."""

from __future__ import annotations

import os

import pytest

from boxwood.drivers.network import ISOLATES, NEW, OWN_ADDRESSES, SHARED_MAC, Attachment
from boxwood.errors import InvalidArgument, Unsupported
from boxwood.testing import network_world as world
from boxwood.testing.network_kit import Bed, Member, NetworkKit, compared, run, settled

_MAC = "02:42:0a:d5:4d:63"


class LinkLaws(NetworkKit):
    """What an attachment says is so."""

    def test_attach_and_detach(self, bed: Bed) -> None:
        """What was made names its network; undoing it twice is undoing it once."""
        network = bed.network()
        request = bed.ask(network)
        if bed.driver.namespace(request).kind != NEW:
            pytest.skip("the driver attaches nothing to a namespace that is somebody else's")
        before = world.look()
        netns = bed.sandbox()
        made = run(bed.driver.attach(request, netns))
        assert isinstance(made, Attachment)
        assert (made.network, made.sandbox, made.endpoint) == (
            request.network, request.sandbox, request.endpoint,
        )  # fmt: skip
        os.close(netns)
        run(bed.driver.detach(made))
        run(bed.driver.detach(made))
        assert settled(before) == []

    def test_the_interface_is_there(self, bed: Bed) -> None:
        """Under the name that was asked for, up, with the MAC address that is told."""
        member = bed.join(bed.network(), interface="kit7")
        link = world.look(member.netns).links["kit7"]
        assert link.up
        assert member.made.interface == "kit7"
        assert member.made.mac_address == link.mac
        first = int(link.mac.partition(":")[0], 16)
        assert not first & 1, "a multicast address"
        assert world.look(member.netns).names() == {"lo", "kit7"}

    def test_the_mac_address_is_honoured(self, bed: Bed) -> None:
        """The one that the client gave; else each sandbox has one of its own."""
        network = bed.network()
        bed.need_attaching(bed.ask(network))
        if SHARED_MAC in bed.driver.capabilities:
            with pytest.raises(InvalidArgument):
                bed.join(network, mac_address=_MAC)
            return
        member = bed.join(network, mac_address=_MAC)
        assert member.made.mac_address == _MAC
        assert world.look(member.netns).links["eth0"].mac == _MAC
        others = {bed.join(network).made.mac_address for _ in range(2)}
        assert len({*others, _MAC}) == 3

    def test_the_addresses_are_there(self, bed: Bed) -> None:
        """Those that are told, which are those that the core gave out, and no other."""
        member = bed.join(bed.network())
        self._has_addresses(bed, member)

    def test_both_families(self, bed: Bed) -> None:
        """A sandbox is reached by its IPv6 address too, at once."""
        network = bed.network(ipv6=True)
        one, two = bed.join(network), bed.join(network)
        self._has_addresses(bed, one)
        with world.serving(one.netns, 80, "::") as door:
            door.visited_from(two.netns, one.address6, 80)
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80)

    def _has_addresses(self, bed: Bed, member: Member) -> None:
        found = world.look(member.netns).addresses
        assert found["eth0"] == set(member.made.addresses)
        assert found["lo"] == {"127.0.0.1/8", "::1/128"}
        if OWN_ADDRESSES in bed.driver.capabilities:
            assert member.made.addresses
        else:
            assert member.made.addresses == member.request.addresses

    def test_the_default_route(self, bed: Bed) -> None:
        """It leads through the gateways that are told, all of them and no other."""
        member = bed.join(bed.network())
        found = world.look(member.netns).defaults()
        assert found == dict.fromkeys(member.made.gateways, "eth0")
        if OWN_ADDRESSES not in bed.driver.capabilities:
            assert set(member.made.gateways) <= set(member.request.gateways)

    def test_no_gateway_no_default_route(self, bed: Bed) -> None:
        """Neighbours are reached without."""
        network = bed.network()
        if OWN_ADDRESSES in bed.driver.capabilities:
            pytest.skip("the driver chooses gateways itself")
        one, two = bed.join(network, gateways=()), bed.join(network, gateways=())
        assert world.look(one.netns).defaults() == {}
        assert one.made.gateways == ()
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80)

    @pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
    def test_sandboxes_reach_each_other(self, bed: Bed, udp: bool) -> None:
        """Both ways, each seen with its own address."""
        network = bed.network()
        one, two = bed.join(network), bed.join(network)
        for here, there in ((one, two), (two, one)):
            with world.serving(here.netns, 4000, udp=udp) as door:
                assert door.visited_from(there.netns, here.address, 4000) == there.address
                assert door.visited_from(here.netns, here.address, 4000) == here.address

    def test_much_data_passes(self, bed: Bed) -> None:
        """Whatever the size of a packet: 4 MiB, there and back."""
        network = bed.network()
        one, two = bed.join(network), bed.join(network)
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80, os.urandom(4 << 20))

    def test_detach_of_one_that_lives_on(self, bed: Bed) -> None:
        """The link goes, and all that came with it; the sandbox may be attached again."""
        network = bed.network()
        netns = bed.sandbox()
        before = world.look(netns)
        member = bed.join(network, netns)
        bed.leave(member)
        assert compared(before, world.look(netns)) == []
        bed.leave(member)
        made = run(bed.driver.attach(member.request, netns))
        assert world.look(netns).addresses["eth0"] == set(made.addresses)
        run(bed.driver.detach(made, netns))
        assert compared(before, world.look(netns)) == []

    def test_detach_of_one_that_is_gone(self, bed: Bed) -> None:
        """The neighbours stay joined, and the address may be given to the next."""
        network = bed.network()
        one, two = bed.join(network), bed.join(network)
        gone = bed.join(network)
        ended = world.tether(gone.netns)
        os.close(gone.netns)
        bed.leave(gone, going=True)
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80)
        if OWN_ADDRESSES not in bed.driver.capabilities:
            ended()  # until then it answers, and neighbours remember
            heir = bed.join(network, addresses=gone.request.addresses)
            with world.serving(heir.netns, 80) as door:
                door.visited_from(two.netns, heir.address, 80)

    def test_several_networks(self, bed: Bed) -> None:
        """A sandbox in two is reached in both; detached from one it keeps the other."""
        first = bed.network()
        bed.need_multiple()
        second = bed.network(1)
        netns = bed.sandbox()
        one = bed.join(first, netns)
        two = bed.join(second, netns, interface="eth1", gateways=())
        near, far = bed.join(first), bed.join(second)
        assert set(world.look(netns).defaults().values()) <= {"eth0"}
        with world.serving(netns, 80) as door:
            door.visited_from(near.netns, one.address, 80)
            door.visited_from(far.netns, two.address, 80)
            bed.leave(two)
            assert world.look(netns).names() == {"lo", "eth0"}
            door.visited_from(near.netns, one.address, 80)

    def test_the_default_route_moves(self, bed: Bed) -> None:
        """`update` gives it to an endpoint, and takes it, while neighbours are reached."""
        network = bed.network()
        member, other = bed.join(network, gateways=()), bed.join(network)
        wanted = other.made.gateways
        if not wanted or OWN_ADDRESSES in bed.driver.capabilities:
            pytest.skip("the driver makes no default route, or chooses it itself")
        update = bed.driver.update
        with (
            world.serving(member.netns, 80) as door,
            door.connected(other.netns, member.address, 80) as (guest, inside),
        ):
            try:
                made = run(update(member.made, member.netns, gateways=wanted, ports=()))
            except Unsupported:
                pytest.skip("the driver cannot change what is attached")
            assert made.gateways == wanted
            assert world.look(member.netns).defaults() == dict.fromkeys(wanted, "eth0")
            again = run(update(made, member.netns, gateways=wanted, ports=()))
            assert again == made
            made = run(update(made, member.netns, gateways=(), ports=()))
            assert made.gateways == ()
            assert world.look(member.netns).defaults() == {}
            world.exchange(guest, inside, b"still there")


class WallLaws(NetworkKit):
    """Whom a sandbox does not reach."""

    def test_internal_is_closed(self, bed: Bed) -> None:
        """Nothing leaves an internal network or enters it, whatever routes are made for it."""
        network = bed.network(internal=True)
        one, two = bed.join(network), bed.join(network)
        with world.serving(one.netns, 80) as door:
            door.visited_from(two.netns, one.address, 80)
        gateway = network.pools[0].gateway if network.pools else ""
        subnets = [pool.subnet for pool in network.pools]
        with world.outside(*subnets) as far:
            for udp in (False, True):
                with world.serving(far, 80, udp=udp) as door:
                    assert not door.reachable(one.netns, world.OUTSIDE_ADDRESS, 80)
                    if gateway and world.route_by(one.netns, "default", gateway):
                        assert not door.reachable(one.netns, world.OUTSIDE_ADDRESS, 80)
                with world.serving(one.netns, 81, udp=udp) as door:
                    assert not door.reachable(far, one.address, 81)

    def test_networks_are_apart(self, bed: Bed) -> None:
        """Where it is claimed: a sandbox does not reach another network's, through the host."""
        bed.need(ISOLATES)
        one, two = bed.join(bed.network()), bed.join(bed.network(1))
        for here, there in ((one, two), (two, one)):
            for gateway in there.request.gateways:
                world.route_by(there.netns, f"{here.address}/32", gateway)
            for udp in (False, True):
                with world.serving(here.netns, 80, udp=udp) as door:
                    assert not door.reachable(there.netns, here.address, 80)
