"""Drivers and options that this machine's kernel may lack: run in the second machine.

Not collected by itself: tests/integration/network/test_second_machine.py does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers.network import NetworkSpec, Pool, PortRequest
from boxwood.errors import Conflict
from boxwood.execution.helper import Helper
from boxwood.execution.ports import Ports
from boxwood.testing import network_world as world
from boxwood.testing.network import Bed, NetworkSuite, run
from boxwood_ext import net, rtnl
from boxwood_plugins.network.ipvlan import IpvlanDriver
from boxwood_plugins.network.macvlan import MacvlanDriver
from tests.support.netlab import Box, lab

SCTP = 132


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


@contextlib.contextmanager
def told_who(box: Box, clients: int) -> Iterator[None]:
    """Serve SCTP at port 80: so many clients are told who they are, after what they said."""
    with box.socket(socket.SOCK_STREAM, protocol=SCTP) as listener:
        listener.bind(("", 80))
        listener.listen()

        def serve() -> None:
            for _ in range(clients):
                client, peer = listener.accept()
                client.settimeout(20)
                with client:
                    client.sendall(client.recv(1 << 16) + peer[0].encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def say(box: Box, address: str, port: int) -> tuple[bytes, str]:
    """Send 1,000 bytes by SCTP; returns what came back of them, and as whom we were seen."""
    with box.socket(socket.SOCK_STREAM, protocol=SCTP) as made:
        made.connect((address, port))
        made.sendall(b"s" * 1000)
        answer = made.recv(1 << 16)
        return answer[:1000], answer[1000:].decode()


def test_sctp_is_published(tmp_path: Path) -> None:
    """By the kernel, with the client's address kept; and from another container, by the host's."""
    with lab(tmp_path / "network") as host:
        network = host.network(1)
        box = host.container(network, PortRequest(80, "sctp", "0.0.0.0", 8080))
        peer = host.container(host.network(2))
        with told_who(box, 2):
            assert say(host.outside, host.HERE, 8080) == (b"s" * 1000, host.OUTSIDE)
            assert say(peer, host.HERE, 8080)[0] == b"s" * 1000


def test_sctp_ports_are_held(tmp_path: Path) -> None:
    """Like others: a conflict is found at once, and numbers are no other protocol's."""

    async def work() -> None:
        helper = Helper(tmp_path)
        ports = Ports(helper)
        (held,) = await ports.hold("c1", [PortRequest(80, "sctp", "127.0.0.1", 0)])
        number = held.host_port
        with pytest.raises(Conflict, match=rf"^Bind for 127\.0\.0\.1:{number} failed: port is"):
            await ports.hold("c2", [PortRequest(80, "sctp", "127.0.0.1", number)])
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP) as other:
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", number))
            await ports.hold("c2", [PortRequest(80, "tcp", "127.0.0.1", number)])
            await ports.release("c1")
            other.bind(("127.0.0.1", number))
        await ports.release("c2")
        await helper.close()

    asyncio.run(work())
