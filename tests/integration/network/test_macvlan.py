"""What macvlan and ipvlan say of options and parents, beside what the kit asks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from boxwood.drivers.network import EndpointRequest, NetworkSpec, Pool
from boxwood.errors import Conflict, InvalidArgument, NotFound, Unavailable
from boxwood.testing import network_world as world
from boxwood.testing.network import run
from boxwood.testing.network_kit import refusal
from boxwood_ext import net, rtnl
from boxwood_plugins.network.ipvlan import IpvlanDriver
from boxwood_plugins.network.macvlan import MacvlanDriver
from tests.support.needs import need_root

POOLS = (Pool(subnet="10.1.1.0/24", gateway="10.1.1.1"),)


@pytest.fixture(autouse=True)
def _host() -> Any:
    need_root()
    with world.host():
        yield


def spec(digit: str = "a", **options: str) -> NetworkSpec:
    return NetworkSpec(id=digit * 64, name="lan", pools=POOLS, options=options)


def link(name: str, kind: str = "bridge") -> None:
    with net.Netlink() as channel:
        channel.batch([rtnl.new_link(name, kind, up=True)])


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        (MacvlanDriver, {"macvlan_mode": "x"}, "requested macvlan mode 'x' is not valid, 'bridge'"),
        (MacvlanDriver, {"ipvlan_mode": "l2"}, "driver macvlan has no option ipvlan_mode"),
        (IpvlanDriver, {"ipvlan_mode": "l4"}, "requested ipvlan mode 'l4' is not valid, 'l2'"),
        (IpvlanDriver, {"ipvlan_flag": "x"}, "ipvlan flag 'x' is not valid"),
        (MacvlanDriver, {"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        (MacvlanDriver, {"parent": "sixteen-letters-"}, "not a name of a link"),
        (MacvlanDriver, {"com.docker.network.driver.mtu": "67"}, "not a size of packets"),
        (MacvlanDriver, {"com.docker.network.driver.mtu": "big"}, "not a size of packets"),
    ],
)  # fmt: skip
def test_options_that_are_refused(driver: Any, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        driver().defaults(spec(**options))


@pytest.mark.parametrize(
    ("parent", "words"),
    [
        ("nosuch", "there is no such link, and it is no VLAN's name"),
        ("nosuch.7", "there is no link nosuch"),
        ("kit0.4095", "no VLAN's name"),
        ("kit0.x", "no VLAN's name"),
    ],
)
def test_parents_that_are_not_there(parent: str, words: str) -> None:
    link("kit0")
    driver = MacvlanDriver()
    with pytest.raises(InvalidArgument, match=words):
        run(driver.create_network(driver.defaults(spec(parent=parent))))
    assert world.look().names() == {"lo", "kit0"}


def test_without_a_parent_the_network_is_internal() -> None:
    """It has a link of its own, that leads nowhere, and no default route."""
    driver = MacvlanDriver()
    network = driver.defaults(spec())
    assert network.internal
    assert network.options["parent"] == "dm-aaaaaaaaaaaa"
    run(driver.create_network(network))
    assert driver.inspect_host(network)["made"] is True
    netns = net.make_namespace()
    with open(netns, "rb"):
        request = EndpointRequest(
            sandbox="s", network=network.id, endpoint="e", addresses=("10.1.1.2/24",),
            gateways=("10.1.1.1",),
        )  # fmt: skip
        assert run(driver.attach(request, netns)).gateways == ()
        assert world.look(netns).defaults() == {}
    run(driver.remove_network(network))
    assert driver.inspect_host(network) == {"parent": None}
    assert world.look().names() == {"lo"}


def test_a_parent_of_the_hosts_stays() -> None:
    """A link that was there is used, whatever becomes of the network; its MTU is the default."""
    link("kit0")
    driver = MacvlanDriver()
    network = driver.defaults(spec(parent="kit0", **{"com.docker.network.driver.mtu": "1400"}))
    run(driver.create_network(network))
    netns = net.make_namespace()
    with open(netns, "rb"):
        request = EndpointRequest(sandbox="s", network=network.id, endpoint="e")
        run(driver.attach(request, netns))
        assert world.look(netns).links["eth0"].mtu == 1400
    run(driver.remove_network(network))
    assert run(driver.reconcile([])) == []
    assert "kit0" in world.look().names()


def test_a_link_that_is_passed_through_is_one_networks() -> None:
    """Docker's words; the same network may be made again."""
    link("kit0")
    driver = MacvlanDriver()
    first = driver.defaults(spec("a", parent="kit0", macvlan_mode="passthru"))
    run(driver.create_network(first))
    run(driver.create_network(first))
    with pytest.raises(Conflict, match="is already using parent interface kit0"):
        run(driver.create_network(driver.defaults(spec("b", parent="kit0"))))
    run(driver.remove_network(first))
    run(driver.create_network(driver.defaults(spec("b", parent="kit0"))))


def test_the_parent_is_gone() -> None:
    """Attach says so."""
    link("kit0")
    driver = MacvlanDriver()
    network = driver.defaults(spec(parent="kit0"))
    run(driver.create_network(network))
    with net.Netlink() as channel:
        channel.batch([rtnl.delete_link("kit0")])
    netns = net.make_namespace()
    with open(netns, "rb"):
        request = EndpointRequest(sandbox="s", network=network.id, endpoint="e")
        with pytest.raises(NotFound, match="eth0 on kit0"):
            run(driver.attach(request, netns))
        with pytest.raises(NotFound, match="network bbbbbbbbbbbb: not made"):
            run(driver.attach(msgspec.structs.replace(request, network="b" * 64), netns))


def test_ipvlan_takes_no_mac_address() -> None:
    driver = IpvlanDriver()
    request = EndpointRequest(sandbox="s", mac_address="02:00:00:00:00:01")
    with pytest.raises(InvalidArgument, match="do not support custom mac address assignment"):
        run(driver.attach(request, -1))


def test_a_kernel_without_ipvlan_says_so() -> None:
    """Either it works, or the sentence names what is missing; never a bare errno."""
    link("kit0")
    driver = IpvlanDriver()
    network = driver.defaults(spec(parent="kit0"))
    run(driver.create_network(network))
    netns = net.make_namespace()
    with open(netns, "rb"):
        request = EndpointRequest(sandbox="s", network=network.id, endpoint="e")
        error = refusal(driver.attach(request, netns))
        assert error is None or isinstance(error, Unavailable)
        assert error is None or "has no links of that kind" in str(error)
