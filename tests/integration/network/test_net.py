"""Namespaces and rtnetlink: the compiled ground of the network drivers."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood_ext import net, rtnl
from tests.support.needs import need_root


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def netns() -> Iterator[int]:
    """A namespace of the test's own."""
    fd = net.make_namespace()
    yield fd
    os.close(fd)


@pytest.fixture
def peer() -> Iterator[int]:
    """Another one."""
    fd = net.make_namespace()
    yield fd
    os.close(fd)


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def names(netns: int) -> dict[str, rtnl.Link]:
    with net.Netlink(netns) as link:
        return {found.name: found for found in rtnl.links(link.query(rtnl.get_links()))}


def test_a_new_namespace_has_its_loopback_up_and_is_not_ours(netns: int) -> None:
    home = here()
    assert os.stat(netns).st_ino != os.stat("/proc/self/ns/net").st_ino
    assert not os.get_inheritable(netns)
    assert names(netns)["lo"].up
    assert here() == home


def test_a_socket_of_another_namespace(netns: int) -> None:
    """It is bound there: the same port is free here, and nobody answers from here."""
    home = here()
    with (
        socket.socket(fileno=net.socket_in(netns, socket.AF_INET, socket.SOCK_STREAM)) as inside,
        socket.socket() as outside,
    ):
        assert not inside.get_inheritable()
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        outside.bind(inside.getsockname())
        with pytest.raises(ConnectionRefusedError), socket.socket() as client:
            client.connect(inside.getsockname())
    assert here() == home


def test_a_descriptor_that_is_no_namespace_is_refused(netns: int, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(OSError, match="enter") as caught:
        net.socket_in(file.fileno(), socket.AF_INET, socket.SOCK_DGRAM)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="open socket"):
        net.socket_in(netns, 9999, socket.SOCK_DGRAM)


def test_a_function_called_there_and_an_error_of_it(netns: int) -> None:
    home = here()
    assert os.stat(netns).st_ino == int(net.call_in(netns, here).partition("[")[2][:-1])
    with pytest.raises(ValueError, match="invalid literal"):
        net.call_in(netns, int, "x")
    assert here() == home


def test_sysctls_of_a_namespace_only(netns: int) -> None:
    mine = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    other = "0" if mine.strip() == "1" else "1"
    net.sysctls_in(netns, [("ipv4/ip_forward", other), ("ipv6/conf/lo/disable_ipv6", "1")])
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == mine
    read = net.call_in(netns, Path("/proc/sys/net/ipv4/ip_forward").read_text)
    assert read.strip() == other
    with pytest.raises(FileNotFoundError, match="ipv4/there_is_none"):
        net.sysctls_in(netns, [("ipv4/there_is_none", "1")])
    with pytest.raises(OSError, match="set sysctl"):
        net.sysctls_in(netns, [("../kernel/hostname", "x")])


def test_a_veth_between_two_namespaces_in_batches(netns: int, peer: int) -> None:
    """Bridge, veth with its peer elsewhere, addresses, routes: and a packet passes."""
    with net.Netlink(netns) as link, net.Netlink(peer) as inside:
        link.batch([rtnl.new_link("br", "bridge", up=True)])
        bridge = link.index("br")
        link.batch(
            [
                rtnl.new_address(bridge, "10.9.0.1/24"),
                rtnl.new_address(bridge, "fd09::1/64"),
                rtnl.veth(
                    "out",
                    "eth0",
                    netns=peer,
                    master=bridge,
                    up=True,
                    mac="02:42:0a:09:00:02",
                    mtu=1400,
                ),
                rtnl.set_link("out", alias="whose"),
            ]
        )
        index = inside.index("eth0")
        inside.batch(
            [
                rtnl.new_address(index, "10.9.0.2/24"),
                rtnl.new_address(index, "fd09::2/64"),
                rtnl.set_link("eth0", up=True),
                rtnl.new_route("default", "10.9.0.1"),
                rtnl.new_route("default", "fd09::1", index),
                rtnl.new_route("10.99.0.0/16", "", index),
            ]
        )
        routes = set(rtnl.routes(inside.query(rtnl.get_routes())))
        own = {found.address for found in rtnl.addresses(inside.query(rtnl.get_addresses(index)))}
        (alone,) = rtnl.links(inside.query(rtnl.get_link(index)))
        addresses = {found.address for found in rtnl.addresses(inside.query(rtnl.get_addresses()))}
    assert {("0.0.0.0/0", "10.9.0.1"), ("::/0", "fd09::1"), ("10.99.0.0/16", "")} <= {
        (route.destination, route.gateway) for route in routes
    }
    assert {"10.9.0.2/24", "fd09::2/64", "127.0.0.1/8"} <= addresses
    assert {"10.9.0.2/24", "fd09::2/64"} <= own
    assert "127.0.0.1/8" not in own
    there = names(peer)["eth0"]
    assert (alone.index, alone.name) == (there.index, there.name)
    assert (there.mac, there.mtu, there.kind, there.up) == ("02:42:0a:09:00:02", 1400, "veth", True)
    out = names(netns)["out"]
    assert (out.master, out.alias, out.up) == (bridge, "whose", True)

    def bound(where: int, address: str) -> socket.socket:
        made = socket.socket(
            fileno=net.socket_in(where, socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        )
        made.bind((address, 5353))
        return made

    with bound(netns, "10.9.0.1") as server, bound(peer, "10.9.0.2") as client:
        server.setblocking(True)
        server.settimeout(10)
        client.sendto(b"hello", ("10.9.0.1", 5353))
        assert server.recvfrom(16) == (b"hello", ("10.9.0.2", 5353))


def test_the_link_goes_with_its_namespace(netns: int) -> None:
    """Nobody deletes it."""
    peer = net.make_namespace()
    with net.Netlink(netns) as link:
        link.batch([rtnl.veth("out", "eth0", netns=peer)])
    assert "out" in names(netns)
    os.close(peer)
    from tests.support.needs import until

    until(lambda: "out" not in names(netns), "the link is gone")


def test_what_is_refused_is_named_and_the_rest_is_done(netns: int) -> None:
    """The kernel goes on after a message that it refused: the index tells which one that was."""
    with net.Netlink(netns) as link:
        with pytest.raises(net.NetlinkError) as caught:
            link.batch(
                [
                    rtnl.new_link("one", "bridge"),
                    rtnl.new_link("one", "bridge"),
                    rtnl.new_link("two", "no-such-kind"),
                    rtnl.new_link("three", "bridge"),
                ]
            )
        assert (caught.value.index, caught.value.errno) == (1, errno.EEXIST)
        assert "message 1" in str(caught.value)
        with pytest.raises(net.NetlinkError) as caught:
            link.batch([rtnl.new_link("n" * 16, "bridge")])
        assert caught.value.detail, "the kernel's own words"
        with pytest.raises(OSError, match="find link: nobody"):
            link.index("nobody")
    assert {"lo", "one", "three"} <= set(names(netns))


def test_more_messages_than_one_send_takes(netns: int) -> None:
    count = 300
    with net.Netlink(netns) as link:
        link.batch([rtnl.new_link("br", "bridge", up=True)])
        index = link.index("br")
        made = [f"10.{number // 200}.{number % 200}.1/24" for number in range(count)]
        with pytest.raises(net.NetlinkError) as caught:
            link.batch(
                [rtnl.new_address(index, address) for address in made] + [rtnl.delete_link("no")]
            )
        assert caught.value.index == count
        found = {one.address for one in rtnl.addresses(link.query(rtnl.get_addresses()))}
        assert set(made) <= found
        link.batch([rtnl.delete_address(index, address) for address in made])
        found = {one.address for one in rtnl.addresses(link.query(rtnl.get_addresses()))}
        assert not set(made) & found


def test_threads_that_come_and_go_between_namespaces(netns: int, peer: int) -> None:
    """Each thread enters alone; the others stay where they are."""
    home = here()
    seen = set()

    def work(where: int) -> None:
        for _ in range(200):
            os.close(net.socket_in(where, socket.AF_INET, socket.SOCK_DGRAM))
            seen.add(here())

    threads = [threading.Thread(target=work, args=(fd,)) for fd in (netns, peer) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {home}
