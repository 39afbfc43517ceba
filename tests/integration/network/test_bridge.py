"""The bridge driver: who reaches whom, and how."""

from __future__ import annotations

import asyncio
import socket

import pytest

from boxwood.drivers.network import EndpointRequest, PortRequest
from boxwood.errors import Conflict
from boxwood_plugins.network.bridge.options import MTU
from tests.support import frames
from tests.support.needs import until
from tests.support.netlab import Lab


def test_containers_reach_each_other_the_host_and_outside(host: Lab) -> None:
    network = host.network(ipv6=True)
    one, two = host.container(network), host.container(network)
    with two.server(), host.server(), host.outside.server():
        assert one.ask(two.ip) == one.ip
        assert one.ask("10.77.1.1") == one.ip
        assert one.ask(host.OUTSIDE) == host.HERE, "masqueraded"
    with two.server(address="::"), host.outside.server(address="::"):
        assert one.ask(two.ip6) == one.ip6
        assert one.ask(host.OUTSIDE6) == host.HERE6


def test_a_published_port(host: Lab) -> None:
    """From outside with its source kept; from the host, also by loopback; from the container."""
    network = host.network(ipv6=True)
    ports = (PortRequest(80, "tcp", "0.0.0.0", 8080), PortRequest(80, "tcp", "::", 8080))
    web = host.container(network, *ports)
    other = host.container(network)
    assert web.attached[0].ports == ports
    with web.server():
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        assert host.ask(host.HERE, 8080)
        assert host.ask("127.0.0.1", 8080) == "10.77.1.1"
        assert host.ask("127.5.5.5", 8080) == "10.77.1.1"
        assert web.ask(host.HERE, 8080), "hairpin"
        assert other.ask(host.HERE, 8080), "a neighbour by the host's address"
        assert other.ask("10.77.1.1", 8080)
    with web.server(address="::"):
        assert host.outside.ask(host.HERE6, 8080) == host.OUTSIDE6
        assert web.ask(host.HERE6, 8080)


def test_another_networks_published_port(host: Lab) -> None:
    web = host.container(host.network(1), PortRequest(80, "tcp", "0.0.0.0", 8080))
    other = host.container(host.network(2))
    with web.server():
        assert other.ask(host.HERE, 8080)
        assert not other.reaches(web.ip)


@pytest.mark.parametrize("kind", ["udp"])
def test_udp(host: Lab, kind: str) -> None:
    web = host.container(host.network(), PortRequest(53, kind, "0.0.0.0", 5300))
    with web.server(53, kind=kind):
        assert host.outside.ask(host.HERE, 5300, kind) == host.OUTSIDE
        assert host.ask("127.0.0.1", 5300, kind)


def test_what_is_given_is_inside(host: Lab) -> None:
    """Name, MAC, addresses, routes, MTU; IPv6 off where the network has none."""
    four = host.network(1, options={MTU: "1400"})
    six = host.network(2, ipv6=True)
    box = host.container(four, mac_address="02:AA:00:00:00:07")
    host.container(six, box=box, gateways=())
    links = box.links()
    assert links["eth0"].mac == box.mac == "02:aa:00:00:00:07"
    assert (links["eth0"].mtu, links["eth1"].mtu) == (1400, 1500)
    assert box.attached[1].mac_address == "02:42:0a:4d:02:03"
    assert box.sh("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6") == "1\n"
    assert box.sh("cat /proc/sys/net/ipv6/conf/eth1/disable_ipv6") == "0\n"
    assert box.sh("ip -4 -br addr show eth0").split()[2:] == ["10.77.1.2/24"]
    assert "fd77:2::3/64" in box.sh("ip -6 -br addr show eth1")
    assert box.sh("ip -4 route show default") == "default via 10.77.1.1 dev eth0 \n"
    assert box.sh("ip -6 route show default") == ""


def test_default_routes_and_ports_change_while_it_runs(host: Lab) -> None:
    one, two = host.network(1), host.network(2)
    port = PortRequest(80, "tcp", "0.0.0.0", 8080)
    box = host.container(one, port)
    host.container(two, box=box, gateways=())
    with box.server() as seen:
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        first, second = box.attached
        first = host.run(host.driver.update(first, box.netns, gateways=(), ports=()))
        second = host.run(
            host.driver.update(second, box.netns, gateways=("10.77.2.1",), ports=(port,))
        )
        assert box.sh("ip -4 route show default") == "default via 10.77.2.1 dev eth1 \n"
        assert (first.gateways, first.ports) == ((), ())
        assert (second.gateways, second.ports) == (("10.77.2.1",), (port,))
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        host.run(host.driver.update(second, box.netns, gateways=("10.77.2.1",), ports=()))
        assert not host.outside.reaches(host.HERE, 8080)
        assert len(seen) == 2


def test_detach_leaves_nothing_in_the_filter_or_of_a_sandbox_that_lives_on(host: Lab) -> None:
    network = host.network(ipv6=True)
    links, rules = host.links(), host.sh("nft list ruleset")
    box = host.container(network, PortRequest(80, "tcp", "0.0.0.0", 8080))
    assert host.sh("nft list ruleset") != rules
    for _ in range(2):
        host.run(host.driver.detach(box.attached[0], box.netns))
    assert host.sh("nft list ruleset") == rules
    assert set(host.links()) == set(links)
    assert set(box.links()) == {"lo"}
    gone = host.container(network, PortRequest(80, "tcp", "0.0.0.0", 8080))
    host.run(host.driver.detach(gone.attached[0]))
    assert host.sh("nft list ruleset") == rules
    host.run(host.driver.remove_network(network))
    assert "boxwood" not in host.sh("nft list ruleset")
    assert not any(link.kind == "bridge" for link in host.links().values())


def test_a_new_daemon_finds_all_working_and_removes_what_nobody_wants(host: Lab) -> None:
    """Nothing is interrupted between its start and `reconcile`."""
    one, two = host.network(1), host.network(2)
    web = host.container(one, PortRequest(80, "tcp", "0.0.0.0", 8080))
    gone = host.container(one, PortRequest(80, "tcp", "0.0.0.0", 8081))
    before = host.sh("nft list ruleset")
    host.driver = host.new_driver()
    host.run(host.driver.create_network(one))
    assert host.sh("nft list ruleset") == before
    with web.server():
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
        said = host.run(host.driver.reconcile(web.attached))
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE
    assert f"link {gone.attached[0].data['link']}: it is no endpoint's and is removed" in said
    bridge = f"br-{two.id[:12]}"
    assert f"bridge {bridge}: it is no network's and is removed" in said
    assert any("left over" in text for text in said)
    assert host.run(host.driver.reconcile(web.attached)) == []
    assert bridge not in host.links()
    assert "8081" not in host.sh("nft list ruleset")
    host.sh("nft flush ruleset")
    said = host.run(host.driver.reconcile(web.attached))
    assert said == ["packet filter: its table was gone and is restored"]
    with web.server():
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE


@pytest.mark.parametrize(
    "harm",
    [
        "nft flush ruleset",
        "nft delete table inet {table}",
        "nft flush chain bridge {table} check",
        "nft flush map inet {table} everywhere4",
        "nft add element inet {table} open4 '{{ br-010101010101 }}'",
    ],
)
def test_the_guard_puts_back_what_others_remove(host: Lab, harm: str) -> None:
    network = host.network()
    web = host.container(network, PortRequest(80, "tcp", "0.0.0.0", 8080))
    table = next(word for word in host.sh("nft list tables").split() if "boxwood" in word)
    before = host.sh("nft list ruleset")

    async def harmed() -> list[str]:
        said: asyncio.Queue[str] = asyncio.Queue()
        guard = asyncio.create_task(host.driver.guard(said.put_nowait))
        await asyncio.sleep(0)
        await asyncio.to_thread(host.sh, harm.format(table=table))
        found = [await asyncio.wait_for(said.get(), 20)]
        guard.cancel()
        await asyncio.wait([guard])
        return found

    assert host.run(harmed())[0].startswith("packet filter: ")
    assert host.sh("nft list ruleset") == before
    with web.server():
        assert host.outside.ask(host.HERE, 8080) == host.OUTSIDE


def test_own_changes_wake_no_guard(host: Lab) -> None:
    network = host.network()

    async def work() -> list[str]:
        said: list[str] = []
        looked: list[str] = []
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def look() -> list[str]:
            looked.append("looked")
            loop.call_soon_threadsafe(done.set)
            return []

        host.driver._restore = look  # type: ignore[attr-defined]
        guard = asyncio.create_task(host.driver.guard(said.append))
        await asyncio.sleep(0)
        box = host.box()
        request = EndpointRequest(
            sandbox="5a" * 32,
            network=network.id,
            endpoint="e" * 64,
            addresses=("10.77.1.9/24",),
            ports=(PortRequest(80, "tcp", "0.0.0.0", 8080),),
        )
        made = await host.driver.attach(request, box.netns)
        await host.driver.detach(made, box.netns)
        await asyncio.to_thread(host.sh, "nft add table inet other")
        await asyncio.wait_for(done.wait(), 20)
        guard.cancel()
        await asyncio.wait([guard])
        return said + looked

    assert host.run(work()) == ["looked"], "once, for the table that is not ours"


def test_a_port_that_the_kernel_cannot_lead_is_left_to_the_core(host: Lab) -> None:
    network = host.network()
    ports = (
        PortRequest(80, "tcp", "127.0.0.1", 8080),
        PortRequest(80, "tcp", "::", 8080),
        PortRequest(80, "tcp", "::1", 8080),
    )
    assert host.container(network, *ports).attached[0].ports == ports[:1]
    six = host.network(2, ipv6=True)
    assert host.container(six, *ports[1:]).attached[0].ports == ports[1:2]
    closed = host.network(3, internal=True)
    assert host.container(closed, *ports).attached[0].ports == ()
    before = host.sh("nft list ruleset"), set(host.links())
    with pytest.raises(Conflict):
        host.container(network, ports[0])
    assert (host.sh("nft list ruleset"), set(host.links())) == before


def test_the_first_frame_to_a_container_is_not_lost(host: Lab) -> None:
    """Nobody sends it again but its sender, a second later."""
    network = host.network()
    bridge = "br-010101010101"
    mac = host.links()[bridge].mac
    for _ in range(60):
        box = host.box()
        with box.socket(socket.SOCK_DGRAM) as ears:
            ears.bind(("", 9))
            host.container(network, box=box)
            host.send_frame(frames.udp(mac, box.mac, "10.77.1.1", box.ip, 9), bridge)
            assert ears.recv(16) == b"forged"


def test_a_udp_flow_that_was_there_before_the_container_finds_it(host: Lab) -> None:
    """And the next one, and others' flows are left alone."""
    network = host.network()
    port = PortRequest(53, "udp", "0.0.0.0", 5300)
    with host.outside.socket(socket.SOCK_DGRAM) as client, host.server(99, kind="udp") as kept:
        client.bind(("", 4000))
        client.sendto(b"kept", (host.HERE, 99))
        until(lambda: kept, "another flow")
        client.sendto(b"nobody is there", (host.HERE, 5300))
        for _ in range(2):
            box = host.container(network, port)
            with box.server(53, kind="udp") as seen:

                def arrives(seen: list[str] = seen) -> list[str]:
                    client.sendto(b"again", (host.HERE, 5300))
                    return seen

                until(arrives, "the flow finds the container")
            host.run(host.driver.detach(box.attached[0], box.netns))
        flows = host.sh("conntrack -L -p udp 2>/dev/null || cat /proc/net/nf_conntrack")
        assert "dport=99" in flows
