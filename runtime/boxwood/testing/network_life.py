"""Laws of a network's life: made, removed, refused, and errors that leave nothing."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest

from boxwood.drivers.network import (
    CONTAINER,
    HOST,
    NEW,
    PUBLISHES_PORTS,
    SHARED_MAC,
    EndpointRequest,
    NetworkDriver,
)
from boxwood.errors import BoxwoodError, InvalidArgument, Unsupported
from boxwood.testing import network_world as world
from boxwood.testing.network_kit import Bed, NetworkKit, compared, port, refusal, run, settled
from boxwood_ext import net, rtnl

_UNKNOWN = {"boxwood.testing.nosuch": "1"}


class LifeLaws(NetworkKit):
    """Namespaces, networks and what is refused."""

    def test_the_namespace_is_one_of_three_kinds(self, bed: Bed) -> None:
        """And the answer is pure: asked twice it is the same."""
        request = bed.ask(bed.spec())
        found = bed.driver.namespace(request)
        assert found.kind in (NEW, HOST, CONTAINER)
        assert bool(found.container) == (found.kind == CONTAINER)
        assert bed.driver.namespace(request) == found

    def test_defaults_are_pure(self, bed: Bed) -> None:
        """A network that is filled in stays as it is, and nothing is made of it yet."""
        before = world.look()
        try:
            network = bed.driver.defaults(bed.spec())
        except Unsupported:
            pytest.skip("the driver has no networks to make")
        assert bed.driver.defaults(network) == network
        assert (network.id, network.name) == (bed.spec().id, bed.spec().name)
        assert compared(before, world.look()) == []

    def test_an_unknown_option_is_refused(self, bed: Bed) -> None:
        """Of a network, before anything is made."""
        asked = bed.spec()
        try:
            bed.driver.defaults(asked)
        except Unsupported:
            pytest.skip("the driver has no networks to make")
        options = {**asked.options, **_UNKNOWN}
        with pytest.raises(InvalidArgument, match="nosuch"):
            bed.driver.defaults(msgspec.structs.replace(asked, options=options))

    def test_networks_are_made_and_removed_once(self, bed: Bed) -> None:
        """Both are idempotent, also after a restart; afterwards the host is as before."""
        before = world.look()
        network = bed.network()
        made = world.look()
        run(bed.driver.create_network(network))
        assert compared(made, world.look()) == []
        run(bed.restart().create_network(network))
        assert compared(made, world.look()) == []
        run(bed.driver.remove_network(network))
        run(bed.driver.remove_network(network))
        assert settled(before) == []
        # Made again it is the same.
        run(bed.driver.create_network(network))
        assert compared(made, world.look()) == []

    def test_a_second_creation_disturbs_nobody(self, bed: Bed) -> None:
        """What is attached works on while the engine starts again."""
        network = bed.network()
        one, two = bed.join(network), bed.join(network)
        with (
            world.serving(one.netns, 80) as door,
            door.connected(two.netns, one.address, 80) as (guest, inside),
        ):
            before = world.look(one.netns)
            run(bed.restart().create_network(network))
            assert run(bed.driver.reconcile([one.made, two.made])) == []
            assert world.look(one.netns) == before
            world.exchange(guest, inside, b"still there")
            door.visited_from(two.netns, one.address, 80)

    def test_attach_to_a_broken_namespace(self, bed: Bed) -> None:
        """A descriptor of something else is an error of the contract's, and leaves nothing."""
        network = bed.network()
        bed.need_attaching(bed.ask(network))
        with open("/dev/null", "rb") as file:
            self._refused(bed, bed.ask(network), file.fileno())

    def test_attach_where_the_interface_is_taken(self, bed: Bed) -> None:
        """The error leaves nothing, and the sandbox as it was."""
        network = bed.network()
        request = bed.ask(network)
        bed.need_attaching(request)
        netns = bed.sandbox()
        with net.Netlink(netns) as channel:
            channel.batch([rtnl.new_link(request.interface, "bridge")])
        self._refused(bed, request, netns)

    def test_attach_with_an_unknown_option(self, bed: Bed) -> None:
        """It is refused by its name, and leaves nothing."""
        network = bed.network()
        request = bed.ask(network, options=_UNKNOWN)
        bed.need_attaching(request)
        error = self._refused(bed, request, bed.sandbox())
        assert isinstance(error, InvalidArgument), repr(error)
        assert "nosuch" in str(error)

    def _refused(self, bed: Bed, request: EndpointRequest, netns: int) -> BoxwoodError:
        """Attach in vain; afterwards host and sandbox are as before, and a good attach works."""
        is_namespace = os.readlink(f"/proc/self/fd/{netns}").startswith("net:")
        before, rules = world.look(), world.rules()
        inside = world.look(netns) if is_namespace else None
        error = refusal(bed.driver.attach(request, netns))
        assert error is not None, "nothing was refused"
        assert settled(before) == []
        assert world.rules() == rules
        if inside is not None:
            assert compared(inside, world.look(netns)) == []
        good = msgspec.structs.replace(request, options=dict(self.endpoint_options))
        fresh = bed.sandbox()
        made = run(bed.driver.attach(good, fresh))
        run(bed.driver.detach(made, fresh))
        return error

    def test_many_at_once(self, bed: Bed) -> None:
        """Sixteen sandboxes are attached at the same time, and each is reached by the next."""
        network = bed.network()
        bed.need_attaching(bed.ask(network))
        places = [(bed.ask(network), bed.sandbox()) for _ in range(16)]

        async def attach() -> list[Any]:
            return await asyncio.gather(*(bed.driver.attach(*place) for place in places))

        async def detach(made: list[Any]) -> None:
            await asyncio.gather(*(bed.driver.detach(one) for one in made))

        made = run(attach())
        try:
            if SHARED_MAC not in bed.driver.capabilities:
                assert len({one.mac_address for one in made}) == len(made)
            assert len({one.addresses for one in made}) == len(made)
            spaces = [netns for _, netns in places]
            for number, one in enumerate(made):
                address = one.addresses[0].partition("/")[0]
                with world.serving(spaces[number], 80) as door:
                    door.visited_from(spaces[number - 1], address, 80)
        finally:
            run(detach(made))

    def test_nothing_accumulates(self, bed: Bed) -> None:
        """Ten lives of a network and a sandbox leave as much as two: links, rules, descriptors."""
        asked = bed.spec()
        request = bed.ask(asked)
        bed.need_attaching(request)
        if PUBLISHES_PORTS in bed.driver.capabilities:
            request = msgspec.structs.replace(request, ports=(port(80), port(53, udp=True)))
        left = []
        for _ in range(10):
            self._one_life(bed, request)
            open_ones = len(os.listdir("/proc/self/fd"))
            left.append((sorted(world.look().names()), world.rules(), open_ones))
        assert left[9][:2] == left[1][:2]
        assert left[9][2] <= left[1][2] + 1, "descriptors stay open"

    def _one_life(self, bed: Bed, request: EndpointRequest) -> None:
        before = world.look()
        try:
            network = bed.driver.defaults(bed.spec())
        except Unsupported:
            network = bed.spec()
        run(bed.driver.create_network(network))
        netns = net.make_namespace()
        try:
            made = run(bed.driver.attach(request, netns))
        finally:
            os.close(netns)
        run(bed.driver.detach(made))
        run(bed.driver.remove_network(network))
        assert settled(before) == []

    def test_inspect_host_is_for_a_person(self, bed: Bed) -> None:
        """It can be written as JSON, with and without anything attached."""
        network = bed.network()
        msgspec.json.encode(bed.driver.inspect_host(network))
        if type(bed.driver).attach is not NetworkDriver.attach:
            bed.join(network)
            msgspec.json.encode(bed.driver.inspect_host(network))
