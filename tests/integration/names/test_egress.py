"""Egress by name, tried as attacks from inside: a host of the test's own with a bridge network, a
container under a policy, a machine outside, the real helper and the real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.execution import egress_broker
from boxwood.execution.egress import Egress
from boxwood.execution.egress_table import Limited
from boxwood.execution.helper import Helper
from boxwood.execution.names import Names, Upstream, View
from boxwood.execution.shim_process import connect
from boxwood.model.egress import parse
from boxwood_ext import net, rtnl
from tests.support import dns
from tests.support.dns import AAAA, OK, REFUSED, SERVFAIL, A, Client, Reply, Server
from tests.support.needs import need_root, until
from tests.support.netlab import Box, Lab, lab

OTHER = "192.0.2.3"
NAMES = {
    "good.example": (Lab.OUTSIDE, Lab.OUTSIDE6),
    "a.wild.example": (OTHER,),
    "wild.example": (OTHER,),
    "bad.example": (Lab.OUTSIDE,),
    "metadata.example": ("169.254.169.254",),
    "loop.example": ("127.0.0.1",),
    "host.example": (Lab.HERE,),
}


class World:
    """All of it. What a test does runs on the host, in a loop."""

    def __init__(self, folder: Path, host: Lab, server: Server, box: Box, peer: Box) -> None:
        self.host, self.server, self.folder = host, server, folder
        self.box, self.peer = box, peer
        self.client = Client(self.box.netns)
        self.policy = parse(["deny"])
        self.begin()

    def begin(self) -> None:
        """A (new) daemon's side."""
        self.helper = Helper(self.folder)
        self.names = Names(self.helper)
        self.egress = Egress(self.folder, self.helper)

    def view(self) -> View:
        upstreams = (Upstream(self.server.address, self.server.port),)
        zones = ("n1",)
        return View(zones=zones, upstreams=upstreams, egress=self.policy)

    async def limit(self, *values: str) -> None:
        """Put the container under a policy."""
        self.policy = parse(values)
        assert self.policy is not None
        await self.names.zone("n1", {"peer": (self.peer.ip,)}, "front")
        await self.egress.open("c1", (self.box.ip, self.box.ip6), self.policy)
        await self.names.open("c1", self.box.netns, self.view())

    async def ask(self, name: str, kind: int = A) -> Reply:
        return await asyncio.to_thread(self.client.ask, name, kind)

    async def reaches(self, address: str, port: int = 80, kind: str = "tcp") -> bool:
        """Does it answer there? A refusal comes at once, not by silence."""

        def attempt() -> bool:
            try:
                return bool(self.box.ask(address, port, kind))
            except (ConnectionError, PermissionError):
                return False

        return await asyncio.to_thread(attempt)

    def host_address(self) -> str:
        """The host's in the container's network."""
        return self.box.attached[0].gateways[0]

    def table(self) -> str:
        return self.host.sh(f"nft list table inet {self.egress.table}")

    def opened(self) -> list[dict[str, int]]:
        """The lifetimes of what is open by name and port, in seconds."""
        said = self.host.sh(f"nft -j list set inet {self.egress.table} ports4")
        found = next(one["set"] for one in json.loads(said)["nftables"] if "set" in one)
        return [element["elem"] for element in found.get("elem", [])]

    async def vanish(self) -> None:
        """As a daemon that is killed."""
        await self.helper.close()
        self.egress.release()
        self.names.release()

    async def end(self) -> None:
        await self.vanish()
        self.begin()
        await self.names.reconcile({}, {})
        await self.egress.reconcile({})
        await self.vanish()
        for name in ("helper.sock", "broker.sock"):
            await asyncio.to_thread(until, lambda name=name: nobody(self.folder, name), "it ends")


def nobody(folder: Path, name: str) -> bool:
    connection = connect(folder, name)
    if connection is not None:
        connection.close()
    return connection is None


def respond(message: bytes) -> bytes:
    question = dns.read(message).question.lower()
    if question == "alias.example":
        return dns.aliased(message, "x.cdn.example", "y.cdn.example", Lab.OUTSIDE)
    kind = int.from_bytes(message[12 + len(dns.name_bytes(question)) :][:2], "big")
    wanted = [a for a in NAMES.get(question, ()) if (":" in a) == (kind == AAAA)]
    return dns.answer(message, *wanted)


Test = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Test], None]]:
    """Runs a test's coroutine on the host."""
    need_root()
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(lab(tmp_path / "driver"))
        with net.Netlink(host.outside.netns) as out:
            out.batch([rtnl.new_address(out.index("eth0"), f"{OTHER}/24")])
        server = stack.enter_context(Server(respond, netns=host.netns))
        for port in (53, 80, 81):
            for kind in ("tcp", "udp"):
                stack.enter_context(host.outside.server(port, kind=kind))
        stack.enter_context(host.outside.server(80, Lab.OUTSIDE6))
        stack.enter_context(host.outside.server(54, OTHER, kind="udp"))
        stack.enter_context(host.server(80))

        def go(test: Test) -> None:
            folder = tmp_path / "run"
            folder.mkdir()
            network = host.network(1, ipv6=True)
            boxes = host.container(network), host.container(network)

            async def whole() -> None:
                world = World(folder, host, server, *boxes)
                try:
                    await test(world)
                finally:
                    await world.end()

            host.do(asyncio.run, whole())

        yield go


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_name_opens_its_address_and_port(run: Callable[[Test], None]) -> None:
    async def test(world: World) -> None:
        assert await world.reaches(Lab.OUTSIDE)
        await world.limit("allow=good.example:80")
        assert not await world.reaches(Lab.OUTSIDE), "before it was asked for"
        reply = await world.ask("good.example")
        assert (reply.rcode, reply.values) == (OK, [Lab.OUTSIDE])
        assert await world.reaches(Lab.OUTSIDE)
        assert not await world.reaches(Lab.OUTSIDE, 81), "another port"
        assert not await world.reaches(Lab.OUTSIDE, 80, "udp"), "another protocol"
        assert not await world.reaches(OTHER), "another address"
        assert not await world.reaches(Lab.OUTSIDE6), "the other family, not asked for"
        assert (await world.ask("good.example", AAAA)).values == [Lab.OUTSIDE6]
        assert await world.reaches(Lab.OUTSIDE6)
        assert await asyncio.to_thread(world.peer.ask, Lab.OUTSIDE, 81), "nobody else is limited"
        await world.egress.close("c1")
        assert await world.reaches(Lab.OUTSIDE, 81)

    run(test)


def test_what_no_rule_fits_is_not_even_asked_for(run: Callable[[Test], None]) -> None:
    """A question could carry out what a connection may not."""

    async def test(world: World) -> None:
        asked: list[tuple[str, str, bool]] = []
        world.helper.on_asked = lambda *told: asked.append(told)
        await world.limit("allow=good.example,*.wild.example")
        for name in ("bad.example", "c2VjcmV0.evil.example", "xgood.example", "wild.example"):
            assert (await world.ask(name)).rcode == REFUSED, name
        assert (await asyncio.to_thread(world.client.ask_tcp, "bad.example")).rcode == REFUSED
        assert (await world.ask("bad.example", dns.TXT)).rcode == REFUSED
        assert (await world.ask("2.2.0.192.in-addr.arpa", dns.PTR)).rcode == REFUSED
        assert world.server.asked == []
        assert ("c1", "c2vjcmv0.evil.example", False) in asked
        assert (await world.ask("a.wild.example")).values == [OTHER]
        assert await world.reaches(OTHER)
        assert await world.reaches(OTHER, 54, "udp"), "no port: all of them"
        assert (await world.ask("peer")).values == [world.peer.ip]

    run(test)


def test_aliases_are_followed(run: Callable[[Test], None]) -> None:
    async def test(world: World) -> None:
        await world.limit("allow=alias.example:80")
        assert Lab.OUTSIDE in (await world.ask("alias.example")).values
        assert await world.reaches(Lab.OUTSIDE)

    run(test)


def test_deny_and_subnets(run: Callable[[Test], None]) -> None:
    async def test(world: World) -> None:
        await world.limit("deny")
        for address in (Lab.OUTSIDE, OTHER, Lab.HERE, world.host_address()):
            for port, kind in ((80, "tcp"), (53, "udp")):
                assert not await world.reaches(address, port, kind), (address, port, kind)
        await world.limit(f"allow={Lab.OUTSIDE}/32:80,{OTHER}/32:54/udp")
        assert await world.reaches(Lab.OUTSIDE)
        assert not await world.reaches(Lab.OUTSIDE, 53, "udp")
        assert await world.reaches(OTHER, 54, "udp")
        assert not await world.reaches(OTHER)
        await world.limit(f"allow={Lab.OUTSIDE}/31")
        assert await world.reaches(OTHER)
        assert await world.reaches(Lab.OUTSIDE, 53, "udp")

    run(test)


def test_names_do_not_lead_inwards(run: Callable[[Test], None]) -> None:
    """To the machine's metadata, the loopback, the host: whoever owns the name says where to."""

    async def test(world: World) -> None:
        await world.limit("allow=*.example")
        for name in ("metadata.example", "loop.example", "host.example"):
            assert (await world.ask(name)).rcode == OK
        assert not await world.reaches(Lab.HERE)
        table = world.table()
        assert "169.254" not in table
        assert "127.0.0.1" not in table

    run(test)


def test_a_lifetime_is_renewed(run: Callable[[Test], None]) -> None:
    """The answer's, and a minute; asked for again it begins anew, in one step."""

    async def test(world: World) -> None:
        await world.limit("allow=good.example:80")
        await world.ask("good.example")
        (first,) = world.opened()
        assert first["timeout"] == 60 + 60
        await asyncio.to_thread(until, lambda: world.opened()[0]["expires"] < 119, "time goes")
        before = world.opened()[0]["expires"]
        for _ in range(3):
            await world.ask("good.example")
        (after,) = world.opened()
        assert after["expires"] > before

    run(test)


@pytest.mark.usefixtures("hasty")
def test_a_name_is_asked_for_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its addresses are closed, as long as the policy has it: one that it gets is open."""

    async def test(world: World) -> None:
        def asked(name: str) -> int:
            return sum(dns.read(message).question == name for message in world.server.asked)

        await world.limit("allow=good.example:80")
        await world.ask("good.example")
        await asyncio.to_thread(until, lambda: asked("good.example") > 2, "it is asked for again")
        assert not await world.reaches(OTHER)
        monkeypatch.setitem(NAMES, "good.example", (OTHER,))
        for _ in range(2000):
            if await world.reaches(OTHER):
                break
            await asyncio.sleep(0.005)
        assert await world.reaches(OTHER), "it has another address by now"
        await world.limit("allow=a.wild.example:80")
        await world.ask("a.wild.example")
        await asyncio.to_thread(until, lambda: asked("a.wild.example") > 1, "once again")
        before = asked("good.example")
        await asyncio.to_thread(until, lambda: asked("a.wild.example") > 2, "and again")
        assert asked("good.example") == before, "the policy does not name it any more"
        assert set(map(asked, ("bad.example", "wild.example"))) == {0}

    run(test)


def test_what_is_open_stays_open(run: Callable[[Test], None]) -> None:
    """A connection outlives the lifetime of the name; and names work without a daemon."""

    async def test(world: World) -> None:
        await world.limit("allow=good.example:81")
        await world.ask("good.example")
        listener = world.host.outside.socket()
        listener.bind((Lab.OUTSIDE, 82))
        listener.listen()
        await world.limit("allow=good.example:82")
        await world.ask("good.example")
        with listener, world.box.socket() as made:
            await asyncio.to_thread(made.connect, (Lab.OUTSIDE, 82))
            accepted, _ = listener.accept()
            with accepted:
                world.host.sh(f"nft flush set inet {world.egress.table} ports4")
                assert not await world.reaches(Lab.OUTSIDE, 81)
                made.sendall(b"still")
                assert await asyncio.to_thread(accepted.recv, 9) == b"still"
        await world.vanish()
        assert (await world.ask("good.example")).values == [Lab.OUTSIDE]
        assert len(world.opened()) == 1
        world.begin()
        assert world.policy is not None
        limited = Limited(world.policy, (world.box.ip, world.box.ip6))
        await world.names.reconcile({"c1": (os.getpid(), world.view())}, {})
        await world.egress.reconcile({"c1": limited})
        assert len(world.opened()) == 1, "what was open is open"
        assert (await world.ask("good.example")).rcode == OK

    run(test)


def test_without_a_broker_nothing_is_answered(run: Callable[[Test], None]) -> None:
    """Nothing is open that was not, and there is another at once."""

    async def test(world: World) -> None:
        await world.limit("allow=good.example:80")
        found = status(world.egress.broker.pid)
        assert found["Name"] == "boxwood-broker"
        assert found["Uid"].split() == ["65534"] * 4
        assert {found[kind] for kind in ("CapPrm", "CapEff")} == {f"{1 << 12:016x}"}
        assert {found[kind] for kind in ("CapInh", "CapAmb", "CapBnd")} == {"0" * 16}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        dead = world.egress.broker.pid
        world.egress.broker.on_end = lambda: None
        os.kill(dead, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: nobody(world.folder, "broker.sock"), "it is dead")
        assert (await world.ask("good.example")).rcode == SERVFAIL
        assert not await world.reaches(Lab.OUTSIDE)
        world.egress._lost()
        for _ in range(2000):
            if (await world.ask("good.example")).rcode == OK:
                break
            await asyncio.sleep(0.005)
        assert world.egress.broker.pid != dead
        assert await world.reaches(Lab.OUTSIDE)

    run(test)


def test_learning(run: Callable[[Test], None]) -> None:
    async def test(world: World) -> None:
        asked: list[tuple[str, str, bool]] = []
        world.helper.on_asked = lambda *told: asked.append(told)
        await world.limit("learn")
        for name in ("good.example", "bad.example", "peer"):
            assert (await world.ask(name)).rcode == OK
        assert await world.reaches(Lab.OUTSIDE, 81)
        assert asked == [("c1", "good.example", True), ("c1", "bad.example", True)]

    run(test)


def ping(address: str) -> None:
    """Send an echo request."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(bytes.fromhex("0800f7ff00000000"), (address, 0))


def test_what_is_refused_is_noted(run: Callable[[Test], None]) -> None:
    """Whatever was not asked for by name, with how often; the next owner begins anew."""

    async def test(world: World) -> None:
        await world.limit("allow=good.example:80")
        await world.ask("good.example")
        assert await world.reaches(Lab.OUTSIDE)
        assert await world.egress.refused("c1") == []
        for target in ((Lab.OUTSIDE, 81), (OTHER, 80), (OTHER, 80), (Lab.OUTSIDE6, 80)):
            assert not await world.reaches(*target)
        assert not await world.reaches(OTHER, 54, "udp")
        world.box.do(ping, OTHER)
        noted = await world.egress.refused("c1")
        assert {(one.address, one.protocol, one.port, one.count) for one in noted} == {
            (Lab.OUTSIDE, "tcp", 81, 1), (OTHER, "tcp", 80, 2), (Lab.OUTSIDE6, "tcp", 80, 1),
            (OTHER, "udp", 54, 1), (OTHER, "icmp", 0, 1),
        }  # fmt: skip
        assert all(0 <= one.ago < 60 for one in noted)
        assert world.policy is not None
        peer = (world.peer.ip,)
        await world.egress.open("c2", peer, world.policy)
        assert not await world.reaches(OTHER)
        assert await world.egress.refused("c2") == []
        await world.egress.close("c1")
        await world.egress.open("c3", (world.box.ip,), world.policy)
        assert await world.egress.refused("c3") == []

    run(test)


def test_a_flush_without_a_daemon_opens_nothing(run: Callable[[Test], None]) -> None:
    """Closed are the limited alone, and open connections of theirs too."""

    async def test(world: World) -> None:
        await world.limit("allow=good.example:80")
        await world.ask("good.example")
        assert await world.reaches(Lab.OUTSIDE)
        await world.vanish()
        world.host.sh("nft flush ruleset")
        for ip in ("ip", "ip6"):  # so that answers find the way back
            chain = "chain out { type nat hook postrouting priority 100; masquerade; }"
            world.host.sh(f"nft 'table {ip} back {{ {chain}; }}'")
        for target in ((Lab.OUTSIDE, 80), (Lab.OUTSIDE6, 80)):
            with pytest.raises(OSError, match=r"unreachable|No route|Permission"):
                await asyncio.to_thread(world.box.ask, *target)
        assert await asyncio.to_thread(world.peer.ask, Lab.OUTSIDE, 81), "nobody else is closed"
        world.begin()
        assert world.policy is not None
        limited = Limited(world.policy, (world.box.ip, world.box.ip6))
        await world.names.reconcile({"c1": (os.getpid(), world.view())}, {})
        await world.egress.reconcile({"c1": limited})
        assert not await world.reaches(Lab.OUTSIDE)
        await world.ask("good.example")
        assert await world.reaches(Lab.OUTSIDE)
        await world.egress.close("c1")
        assert await world.reaches(Lab.OUTSIDE, 81)
        for family in ("-4", "-6"):
            assert "prohibit" not in world.host.sh(f"ip {family} rule")

    run(test)


def test_a_broker_of_another_build_is_replaced(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        executable, build = egress_broker._executable()
        monkeypatch.setattr(egress_broker, "_executable", lambda: (executable, "an older one"))
        await world.limit("allow=good.example:80")
        await world.ask("good.example")
        old = world.egress.broker.pid
        monkeypatch.setattr(egress_broker, "_executable", lambda: (executable, build))
        for expected in (False, True):
            await world.vanish()
            world.begin()
            assert world.policy is not None
            limited = Limited(world.policy, (world.box.ip, world.box.ip6))
            await world.names.reconcile({"c1": (os.getpid(), world.view())}, {})
            await world.egress.reconcile({"c1": limited})
            assert (world.egress.broker.pid == old) is expected
            old = world.egress.broker.pid
            assert len(world.opened()) == 1, "what was open is open"
            assert (await world.ask("good.example")).rcode == OK

    run(test)


def test_a_flushed_table_is_put_back(run: Callable[[Test], None]) -> None:
    async def test(world: World) -> None:
        await world.limit("allow=good.example:80")
        assert not await world.egress.restore()
        world.host.sh(f"nft delete table inet {world.egress.table}")
        assert await world.egress.restore()
        assert not await world.reaches(Lab.OUTSIDE, 81)

    run(test)
