"""The options of a bridge network, by what they do."""

from __future__ import annotations

import pytest

from boxwood.drivers.network import NetworkSpec, Pool, PortRequest
from boxwood.errors import BoxwoodError, Conflict, InvalidArgument, NotFound
from boxwood_plugins.network.bridge import options as opts
from tests.support.netlab import Box, Lab

PORT = PortRequest(80, "tcp", "0.0.0.0", 8080)


def routed_to(host: Lab) -> None:
    """Outside knows the way to the containers' addresses."""
    host.outside.sh(f"ip route add 10.77.0.0/16 via {host.HERE}")


def test_routed(host: Lab) -> None:
    """Published ports at the container's own address, and at no other; sources are kept."""
    routed_to(host)
    box = host.container(host.network(options={opts.MODE4: opts.ROUTED}), PORT)
    with box.server(), box.server(81), host.outside.server():
        assert host.outside.ask(box.ip) == host.OUTSIDE
        assert not host.outside.reaches(box.ip, 81)
        assert not host.outside.reaches(host.HERE, 8080)
        assert box.ask(host.OUTSIDE) == box.ip


def test_nat_unprotected(host: Lab) -> None:
    routed_to(host)
    box = host.container(host.network(options={opts.MODE4: opts.UNPROTECTED}), PORT)
    with box.server(), box.server(81), host.outside.server():
        assert host.outside.ask(box.ip, 81) == host.OUTSIDE
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        assert box.ask(host.OUTSIDE) == host.HERE


def test_isolated(host: Lab) -> None:
    """The host has no address in the network."""
    network = host.network(internal=True, options={opts.MODE4: opts.ISOLATED})
    one, two = host.container(network), host.container(network)
    assert "10.77.1.1" not in host.sh("ip addr")
    with two.server():
        assert one.ask(two.ip) == one.ip


def test_trusted_interfaces(host: Lab) -> None:
    routed_to(host)
    box = host.container(host.network(options={opts.TRUSTED: "out0"}), PORT)
    with box.server(), box.server(81):
        assert host.outside.ask(box.ip) == host.OUTSIDE
        assert not host.outside.reaches(box.ip, 81)


def test_without_masquerade_and_with_a_chosen_source(host: Lab) -> None:
    routed_to(host)
    plain = host.container(host.network(1, options={opts.MASQUERADE: "false"}))
    host.sh("ip addr add 192.0.2.9/24 dev out0")
    chosen = host.container(host.network(2, options={opts.HOST4: "192.0.2.9"}))
    with host.outside.server():
        assert plain.ask(host.OUTSIDE) == plain.ip
        assert chosen.ask(host.OUTSIDE) == "192.0.2.9"


def test_inhibit_ipv4_and_a_bridge_of_somebody_else(host: Lab) -> None:
    """A bridge that is there is used as it is, and stays."""
    host.sh("ip link add lan0 type bridge; ip addr add 10.77.1.7/24 dev lan0")
    network = host.network(options={opts.NAME: "lan0", opts.INHIBIT4: "true"})
    box = host.container(network, gateways=("10.77.1.7",))
    with host.server(), host.outside.server():
        assert box.ask("10.77.1.7") == box.ip
        assert box.ask(host.OUTSIDE) == host.HERE
    host.run(host.driver.remove_network(network))
    assert host.links()["lan0"].kind == "bridge"
    assert "10.77.1.7" in host.sh("ip addr show lan0")


def test_strict_source_off(host: Lab) -> None:
    """A container that is a router for others."""
    network = host.network(options={opts.STRICT: "false"})
    router, client = host.container(network), host.container(network)
    router.sh("ip addr add 10.99.0.1/32 dev lo")
    client.sh(f"ip route add 10.99.0.1 via {router.ip}")
    host.sh(f"ip route add 10.99.0.1 via {router.ip}")
    with router.server(), client.server():
        assert client.ask("10.99.0.1") == client.ip
        with router.socket() as s:
            s.bind(("10.99.0.1", 0))
            s.connect((client.ip, 80))
            assert s.recv(64) == b"10.99.0.1"


@pytest.mark.parametrize(
    "prepare",
    [
        "ip link add br-010101010101 type bridge",
        "ip link add br-010101010101 type veth peer name x",
    ],
)
def test_the_name_of_the_bridge_is_taken(host: Lab, prepare: str) -> None:
    host.sh(prepare)
    with pytest.raises(Conflict, match="br-010101010101"):
        host.network()
    assert "boxwood" not in host.sh("nft list ruleset | grep elements || true")
    assert "br-010101010101" in host.links()


def test_two_networks_of_one_bridge(host: Lab) -> None:
    host.network(1, options={opts.NAME: "one"})
    with pytest.raises(Conflict, match="networks have same bridge name"):
        host.network(2, options={opts.NAME: "one"})


def test_the_bridge_of_a_network_that_is_gone_is_taken_over(host: Lab) -> None:
    """The data root is another after a reset; the host still has the old default's bridge."""
    host.network(1, options={opts.NAME: "own0"})
    host.driver = host.new_driver()
    host.network(2, options={opts.NAME: "own0"})
    assert "10.77.2.1/24" in host.sh("ip addr show own0")
    assert "10.77.1.1/24" not in host.sh("ip addr show own0")


def left(host: Lab, box: Box) -> tuple[str, set[str], set[str]]:
    return host.sh("nft list ruleset"), set(host.links()), set(box.links())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"mac_address": "02:00"}, InvalidArgument),
        ({"mac_address": "nonsense"}, InvalidArgument),
        ({"mac_address": "01:00:00:00:00:01"}, BoxwoodError),
        ({"options": {"unknown": "x"}}, InvalidArgument),
        ({"gateways": ("192.0.2.77",)}, BoxwoodError),
        ({"network": NetworkSpec(id="ee" * 32, name="none", pools=())}, NotFound),
    ],
)
def test_what_fails_leaves_nothing(
    host: Lab, wrong: dict[str, object], error: type[BoxwoodError]
) -> None:
    network = host.network()
    box = host.box()
    before = left(host, box)
    with pytest.raises(error):
        host.container(wrong.pop("network", network), PORT, box=box, **wrong)  # type: ignore[arg-type]
    assert left(host, box) == before


def test_an_interface_that_is_there_already(host: Lab) -> None:
    network = host.network()
    box = host.container(network)
    box.attached.clear()
    before = left(host, box)
    with pytest.raises(Conflict, match="interface eth0"):
        host.container(network, box=box)
    assert left(host, box) == before


def test_the_default_network_has_a_name_of_its_own(host: Lab) -> None:
    spec = NetworkSpec(
        id="cd" * 32, name="bridge", default=True, pools=(Pool(subnet="10.1.0.0/24"),)
    )
    made = host.driver.defaults(spec)
    assert made.options[opts.NAME] == "br-cdcdcdcdcdcd", "of an engine with another exec-root"
    assert host.driver.defaults(made) == made
