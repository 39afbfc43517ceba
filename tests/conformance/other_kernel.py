"""Drivers and options that this machine's kernel may lack: run in the second machine.

Not collected by itself: tests/integration/network/test_second_machine.py does it.
"""

from __future__ import annotations

import pytest

from boxwood.drivers.network import NetworkSpec, Pool
from boxwood.testing import network_world as world
from boxwood.testing.network import Bed, NetworkSuite, run
from boxwood_ext import net, rtnl
from boxwood_plugins.network.ipvlan import IpvlanDriver
from boxwood_plugins.network.macvlan import MacvlanDriver


def parents() -> None:
    with net.Netlink() as channel:
        channel.batch([rtnl.new_link(f"kit-parent{number}", "dummy", up=True) for number in (0, 1)])


class TestIpvlan(NetworkSuite):
    driver_name = "ipvlan"

    def prepare(self) -> None:
        parents()

    def options_of_network(self, number: int) -> dict[str, str]:
        return {"parent": f"kit-parent{number}"}


class TestIpvlanL3(TestIpvlan):
    def options_of_network(self, number: int) -> dict[str, str]:
        return {"parent": f"kit-parent{number}", "ipvlan_mode": "l3"}

    def test_the_default_route(self, bed: Bed) -> None:
        """It needs no gateway, and `update` takes it and gives it."""
        network = bed.network()
        member = bed.join(network)
        assert world.look(member.netns).defaults() == {"": "eth0"}
        made = run(bed.driver.update(member.made, member.netns, gateways=(), ports=()))
        assert world.look(member.netns).defaults() == {}
        gateways = member.request.gateways
        run(bed.driver.update(made, member.netns, gateways=gateways, ports=()))
        assert world.look(member.netns).defaults() == {"": "eth0"}

    def test_the_default_route_moves(self, bed: Bed) -> None:
        pytest.skip("above")


class TestVlan(NetworkSuite):
    """A parent that the driver makes: a VLAN of another link."""

    driver_name = "macvlan"

    def prepare(self) -> None:
        parents()

    def options_of_network(self, number: int) -> dict[str, str]:
        return {"parent": f"kit-parent0.{7 + number}"}

    def test_it_is_a_vlan(self, bed: Bed) -> None:
        bed.network()
        link = world.look().links["kit-parent0.7"]
        assert (link.kind, link.up) == ("vlan", True)


@pytest.mark.parametrize("driver", [IpvlanDriver, MacvlanDriver])
def test_a_parent_of_its_own_is_a_dummy(driver: type[IpvlanDriver]) -> None:
    with world.host():
        made = driver()
        pools = (Pool(subnet="10.1.1.0/24"),)
        network = made.defaults(NetworkSpec(id="ab" * 32, name="n", pools=pools))
        run(made.create_network(network))
        assert world.look().links["dm-abababababab"].kind == "dummy"
        run(made.remove_network(network))
        assert world.look().names() == {"lo"}
