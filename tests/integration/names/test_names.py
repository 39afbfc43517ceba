"""Names inside sandboxes: real namespaces, real sockets, the real helper."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from boxwood.errors import InvalidArgument, NotFound
from boxwood.execution.names import Upstream, View
from tests.support import dns
from tests.support.dns import AAAA, MX, OK, PTR, REFUSED, SERVFAIL, SRV, A, Client, Server

ask = asyncio.to_thread

RECORDS = {
    "web": ("172.18.0.2", "fd00::2"),
    "db": ("172.18.0.3",),
    "0123456789ab": ("172.18.0.2",),
    "pool": tuple(f"172.18.1.{n}" for n in range(1, 11)),
    "many": tuple(f"172.18.2.{n}" for n in range(1, 61)),
}


@pytest.fixture
async def client(daemon, netns: int) -> Client:
    """Asks in a sandbox of a network ``front`` with RECORDS and no other server."""
    await daemon.names.zone("n1", RECORDS, "front")
    await daemon.names.open("c1", netns, View(zones=("n1",)))
    return Client(netns)


async def test_addresses_of_both_families(client: Client) -> None:
    reply = await ask(client.ask, "web")
    assert (reply.rcode, reply.answers) == (OK, [("web", A, 600, "172.18.0.2")])
    assert (await ask(client.ask, "web", AAAA)).values == ["fd00::2"]
    assert (await ask(client.ask, "0123456789ab")).values == ["172.18.0.2"]
    assert (await ask(client.ask, "WeB.Front.")).values == ["172.18.0.2"]


async def test_the_other_family_and_other_types_are_empty(client: Client) -> None:
    for name, kind in [("db", AAAA), ("web", MX), ("web", SRV), ("web", dns.HTTPS)]:
        reply = await ask(client.ask, name, kind)
        assert (reply.rcode, reply.answers) == (OK, []), (name, kind)


async def test_reverse(client: Client) -> None:
    reply = await ask(client.ask, "2.0.18.172.in-addr.arpa", PTR)
    assert reply.values == ["web.front"]
    six = "2." + "0." * 27 + "0.0.d.f.ip6.arpa"
    assert (await ask(client.ask, six, PTR)).values == ["web.front"]
    assert (await ask(client.ask, "9.9.18.172.in-addr.arpa", PTR)).rcode == REFUSED


async def test_several_addresses_change_their_order(client: Client) -> None:
    replies = [(await ask(client.ask, "pool")).values for _ in range(40)]
    assert {frozenset(values) for values in replies} == {frozenset(RECORDS["pool"])}
    assert len({values[0] for values in replies}) > 3


async def test_truncation_edns_and_tcp(client: Client) -> None:
    short = await ask(client.ask, "many")
    assert short.truncated
    assert short.answers == []
    assert short.size <= 512
    wide = await ask(lambda: client.ask("many", edns=4096))
    assert not wide.truncated
    assert len(wide.answers) == 60
    assert wide.edns == 4096
    over_tcp = await ask(client.ask_tcp, "many")
    assert sorted(over_tcp.values) == sorted(RECORDS["many"])


async def test_tcp_takes_several_questions_and_half_close(client: Client) -> None:
    def talk() -> list[dns.Reply]:
        with client.socket(socket.SOCK_STREAM) as connection:
            for n, name in enumerate(["web", "db"]):
                dns.send_tcp(connection, dns.query(name, number=n))
            connection.shutdown(socket.SHUT_WR)
            replies = [dns.read(dns.recv_tcp(connection)) for _ in range(2)]
            assert dns.recv_tcp(connection) == b""
            return replies

    first, second = await ask(talk)
    assert (first.number, first.values) == (0, ["172.18.0.2"])
    assert (second.number, second.values) == (1, ["172.18.0.3"])


async def test_networks_in_order_and_own_names_first(daemon, netns: int) -> None:
    await daemon.names.zone("n1", {"web": ("10.0.0.1",), "a": ("10.0.0.2",)}, "one")
    await daemon.names.zone("n2", {"web": ("10.0.1.1",), "b": ("10.0.1.2",)}, "two")
    view = View(zones=("n2", "n1"), names={"a": ("10.9.9.9",)})
    await daemon.names.open("c1", netns, view)
    client = Client(netns)
    answers = {name: (await ask(client.ask, name)).values for name in ["web", "web.one", "a", "b"]}
    assert answers == {
        "web": ["10.0.1.1"], "web.one": ["10.0.0.1"], "a": ["10.9.9.9"], "b": ["10.0.1.2"]
    }  # fmt: skip
    await daemon.names.change("c1", View(zones=("n1",)))
    assert (await ask(client.ask, "web")).values == ["10.0.0.1"]
    assert (await ask(client.ask, "b")).rcode == REFUSED
    with pytest.raises(NotFound):
        await daemon.names.change("c2", view)


async def test_a_sandbox_sees_only_its_networks(daemon, namespaces: Callable[[], int]) -> None:
    one, two = namespaces(), namespaces()
    await daemon.names.zone("n1", {"secret": ("10.0.0.1",)}, "one")
    await daemon.names.zone("n2", {"open": ("10.0.0.2",)}, "two")
    await daemon.names.open("c1", one, View(zones=("n1",)))
    await daemon.names.open("c2", two, View(zones=("n2",)))
    assert (await ask(Client(one).ask, "secret")).values == ["10.0.0.1"]
    for name, kind in [("secret", A), ("secret.one", A), ("1.0.0.10.in-addr.arpa", PTR)]:
        assert (await ask(Client(two).ask, name, kind)).rcode == REFUSED


async def test_a_zone_is_replaced_whole_and_may_be_large(daemon, netns: int) -> None:
    await daemon.names.open("c1", netns, View(zones=("n1",)))
    client = Client(netns)
    assert (await ask(client.ask, "c0")).rcode == REFUSED
    large = {f"c{n}": (f"10.{n >> 8 & 255}.{n & 255}.7", f"fd00::{n + 1:x}") for n in range(5000)}
    await daemon.names.zone("n1", large, "big")
    for n in (0, 1, 777, 4999):
        assert (await ask(client.ask, f"c{n}.big")).values == [large[f"c{n}"][0]]
        assert (await ask(client.ask, f"c{n}", AAAA)).values == [large[f"c{n}"][1]]
    await daemon.names.zone("n1", {"only": ("10.0.0.1",)}, "big")
    assert (await ask(client.ask, "c777")).rcode == REFUSED
    await daemon.names.forget("n1")
    assert (await ask(client.ask, "only")).rcode == REFUSED


async def test_port_53_is_the_sandboxes_own(client: Client) -> None:
    server = Server(lambda message: dns.answer(message, "9.9.9.9"), netns=client.netns)
    server.udp.close()
    fd = dns.socket_in(client.netns, socket.AF_INET, socket.SOCK_DGRAM)
    server.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 0, fd)
    server.udp.settimeout(0.05)
    server.udp.bind(("0.0.0.0", 53))
    with server:
        assert (await ask(Client(client.netns, ("127.0.0.1", 53)).ask, "web")).values == ["9.9.9.9"]
        assert (await ask(client.ask, "web")).values == ["172.18.0.2"]


# ---- other servers


def silence(message: bytes) -> None:
    """What a server says that says nothing."""


def from_host(*servers: Server) -> tuple[Upstream, ...]:
    return tuple(Upstream(server.address, server.port) for server in servers)


async def test_what_is_not_known_is_asked_elsewhere(daemon, netns: int) -> None:
    with Server(lambda message: dns.answer(message, "93.184.216.34")) as server:
        await daemon.names.zone("n1", RECORDS, "front")
        await daemon.names.open("c1", netns, View(zones=("n1",), upstreams=from_host(server)))
        client = Client(netns)
        reply = await ask(client.ask, "example.org")
        assert (reply.values, reply.question) == (["93.184.216.34"], "example.org")
        assert (await ask(client.ask_tcp, "example.org")).values == ["93.184.216.34"]
        assert (await ask(client.ask, "example.org", dns.TXT)).values == ["93.184.216.34"]
        asked = len(server.asked)
        assert (await ask(client.ask, "web", AAAA)).rcode == OK
        assert (await ask(client.ask, "db", AAAA)).rcode == OK
        assert len(server.asked) == asked


async def test_nothing_leaves_an_internal_network(daemon, netns: int) -> None:
    with Server(lambda message: dns.answer(message, "1.2.3.4")) as server:
        await daemon.names.zone("n1", RECORDS, "front")
        view = View(zones=("n1",), upstreams=from_host(server), forward=False)
        await daemon.names.open("c1", netns, view)
        client = Client(netns)
        for name, kind in [("example.org", A), ("leak.front", A), ("x", AAAA), ("1.2.3.4", PTR)]:
            assert (await ask(client.ask, name, kind)).rcode == REFUSED
            assert (await ask(client.ask_tcp, name, kind)).rcode == REFUSED
        assert (await ask(client.ask, "web")).values == ["172.18.0.2"]
        assert server.asked == []


async def test_one_label_with_ndots(daemon, netns: int) -> None:
    with Server(lambda message: dns.answer(message, "1.2.3.4")) as server:
        await daemon.names.open("c1", netns, View(upstreams=from_host(server), ndots=True))
        client = Client(netns)
        reply = await ask(client.ask, "lonely")
        assert (reply.rcode, reply.answers) == (OK, [])
        assert server.asked == []
        assert (await ask(client.ask, "two.labels")).values == ["1.2.3.4"]
        await daemon.names.change("c1", View(upstreams=from_host(server)))
        assert (await ask(client.ask, "lonely")).values == ["1.2.3.4"]


async def test_the_next_server_after_a_refusal_or_a_dead_one(daemon, netns: int) -> None:
    with (
        Server(lambda message: dns.answer(message, rcode=SERVFAIL)) as failing,
        Server(lambda message: dns.answer(message, rcode=REFUSED)) as refusing,
        Server(lambda message: dns.answer(message, "1.2.3.4")) as good,
    ):
        view = View(upstreams=from_host(failing, refusing, good))
        await daemon.names.open("c1", netns, view)
        client = Client(netns)
        assert (await ask(client.ask, "a.b")).values == ["1.2.3.4"]
        assert (await ask(client.ask_tcp, "a.b")).values == ["1.2.3.4"]
        dead = Upstream("127.0.0.1", 1)
        await daemon.names.change("c1", View(upstreams=(dead, *from_host(good))))
        assert (await ask(client.ask, "a.b")).values == ["1.2.3.4"]
        assert (await ask(client.ask_tcp, "a.b")).values == ["1.2.3.4"]
        await daemon.names.change("c1", View(upstreams=from_host(failing)))
        assert (await ask(client.ask, "a.b")).rcode == SERVFAIL


async def test_a_silent_server_is_left_after_four_seconds(daemon, netns: int) -> None:
    with (
        Server(silence) as silent,
        Server(lambda message: dns.answer(message, "1.2.3.4")) as good,
    ):
        await daemon.names.open("c1", netns, View(upstreams=from_host(silent, good)))
        client = Client(netns)
        replies = await asyncio.gather(ask(client.ask, "a.b"), ask(client.ask_tcp, "a.b"))
        assert [reply.values for reply in replies] == [["1.2.3.4"], ["1.2.3.4"]]
        assert (await daemon.names.metrics())["timeouts"] == 2


async def test_answers_of_others_do_not_count(daemon, netns: int) -> None:
    """Wrong id, wrong question, no reply at all: only the asked server's answer to the question."""

    def spoil(message: bytes) -> list[bytes]:
        good = dns.answer(message, "1.2.3.4")
        wrong_id = bytes([message[0] ^ 1]) + dns.answer(message, "6.6.6.6")[1:]
        other = dns.answer(message[:2] + dns.query("evil.example")[2:], "6.6.6.6")
        return [wrong_id, other, message, b"", good[:9], b"\xff" * 600, good]

    with Server(spoil) as server:
        await daemon.names.open("c1", netns, View(upstreams=from_host(server)))
        client = Client(netns)
        for n in range(20):
            assert (await ask(client.ask, f"a{n}.b")).values == ["1.2.3.4"]
        assert len(server.sources) > 15, "the same source port again and again"
        assert len({message[:2] for message in server.asked}) > 15
        assert (await daemon.names.metrics())["mismatched"] == 20 * 6


async def test_another_address_cannot_answer(daemon, netns: int) -> None:
    """It knows id, port and question, and still is not whom we asked."""
    liar = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    liar.bind(("127.0.0.2", 0))
    server: Server

    def respond(message: bytes) -> bytes:
        (source,) = server.sources
        for _ in range(3):
            liar.sendto(dns.answer(message, "6.6.6.6"), source)
        return dns.answer(message, "1.2.3.4")

    with liar, Server(respond) as server:
        await daemon.names.open("c1", netns, View(upstreams=from_host(server)))
        assert (await ask(Client(netns).ask, "a.b")).values == ["1.2.3.4"]


async def test_a_long_answer_is_cut_for_who_takes_less(daemon, netns: int) -> None:
    many = [f"10.1.{n}.1" for n in range(100)]
    with Server(lambda message: dns.answer(message, *many)) as server:
        await daemon.names.open("c1", netns, View(upstreams=from_host(server)))
        client = Client(netns)
        short = await ask(client.ask, "a.b")
        assert (short.truncated, short.answers, short.question) == (True, [], "a.b")
        assert len((await ask(lambda: client.ask("a.b", edns=4096))).answers) == 100
        assert len((await ask(client.ask_tcp, "a.b")).answers) == 100


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
async def test_servers_inside_the_sandbox(daemon, netns: int, family: str) -> None:
    """``--dns``: asked from the sandbox's own network. More at once than there are sockets."""
    with Server(lambda message: dns.answer(message, "1.2.3.4"), netns=netns) as server:
        upstreams = [Upstream(server.address, server.port, inside=True)]
        if family == "::1":
            upstreams.insert(0, Upstream("::1", server.port, inside=True))
        await daemon.names.open("c1", netns, View(upstreams=tuple(upstreams)))
        client = Client(netns)
        questions = [ask(client.ask, f"a{n}.b") for n in range(40)]
        questions += [ask(client.ask_tcp, f"t{n}.b") for n in range(8)]
        replies = await asyncio.gather(*questions)
        assert {tuple(reply.values) for reply in replies} == {("1.2.3.4",)}
        assert len(server.sources) > 20


async def in_flight(daemon, count: int) -> None:
    for _ in range(5000):
        if (await daemon.names.metrics())["in_flight"] >= count:
            return
        await asyncio.sleep(0.002)
    pytest.fail(f"never {count} at once")


async def test_too_many_at_once_are_refused(daemon, netns: int) -> None:
    with Server(silence) as silent:
        # Asked three times: the first must wait until the last is sent, on the slowest machine.
        await daemon.names.open("c1", netns, View(upstreams=from_host(silent, silent, silent)))
        client = Client(netns)
        with client.socket(socket.SOCK_DGRAM) as made:
            made.settimeout(10)
            for n in range(1024):
                made.send(dns.query(f"q{n}.b", number=n))
                if n % 64 == 63:  # not more at once than a socket's buffer takes
                    await in_flight(daemon, n + 1)
            made.send(dns.query("one.more", number=4242))
            reply = dns.read(await ask(made.recv, 512))
        assert (reply.number, reply.rcode) == (4242, REFUSED)


# ---- strangers


async def test_broken_questions(client: Client, daemon) -> None:
    good = dns.query("web", number=7)
    for message, rcode in [
        (good[:4] + b"\0\0" + good[6:12], dns.FORMERR),
        (good[:4] + b"\0\2" + good[6:], dns.FORMERR),
        (good[:12] + b"\xc0\x0c" + good[-4:], dns.FORMERR),
        (good[:-3], dns.FORMERR),
        (good[:2] + b"\x28\0" + good[4:], dns.NOTIMP),
        (good[:10] + b"\0\1" + good[12:], dns.FORMERR),
        (good[:12] + b"\x3f" + b"a" * 63 * 4, dns.FORMERR),
    ]:
        reply = dns.read(await ask(client.raw, message))
        assert (reply.number, reply.rcode) == (7, rcode), message.hex()
    with client.socket(socket.SOCK_DGRAM) as made:
        for silent in (b"", b"x", good[:11], b"\0\0\x80" + good[3:], b"\xff" * 9000):
            made.send(silent)
        made.send(good)
        assert dns.read(await ask(made.recv, 512)).values == ["172.18.0.2"]
    assert (await daemon.names.metrics())["malformed"] == 7 + 5


async def test_a_name_with_a_dot_in_a_label_is_not_ours(client: Client) -> None:
    message = dns.query("x", number=1)
    spoofed = message[:12] + b"\x09web.front\0" + message[-4:]
    assert dns.read(await ask(client.raw, spoofed)).rcode == REFUSED


async def test_bad_views_and_names_are_refused(daemon, netns: int) -> None:
    for view in (
        View(upstreams=(Upstream("localhost"),)),
        View(names={"": ("1.2.3.4",)}),
        View(names={"a" * 254: ("1.2.3.4",)}),
        View(names={"a": ("1.2.3",)}),
        View(zones=tuple(f"n{n}" for n in range(65))),
    ):
        with pytest.raises(InvalidArgument):
            await daemon.names.open("c1", netns, view)


def patiently(client: Client, name: str) -> dns.Reply:
    """Ask as a library does, again after a while: a flood of others fills the socket's buffer."""
    for _ in range(10):
        with contextlib.suppress(TimeoutError):
            return Client(client.netns, seconds=1).ask(name)
    pytest.fail("no answer in ten seconds")


async def test_hostile_packets_over_both(daemon, netns: int, fuzz_random: random.Random) -> None:
    """From the sandbox and from the server that is asked: nobody else notices."""

    def spoil(data: bytes) -> bytes:
        piece = bytearray(data)
        for _ in range(fuzz_random.randint(1, 4)):
            if piece:
                piece[fuzz_random.randrange(len(piece))] = fuzz_random.choice((0, 63, 192, 255))
            if fuzz_random.random() < 0.2:
                del piece[fuzz_random.randrange(len(piece) + 1) :]
        return bytes(piece)

    def respond(message: bytes) -> list[bytes]:
        good = dns.answer(message, "1.2.3.4")
        return [good] if b"good" in message else [message[:2] + spoil(good)[2:], good]

    def attack(client: Client) -> None:
        for _ in range(30):
            with client.socket(socket.SOCK_STREAM) as stream, contextlib.suppress(OSError):
                stream.sendall(
                    b"".join(
                        fuzz_random.choice((struct.pack(">H", len(piece)) + piece, piece))
                        for piece in (spoil(dns.query("web.front")) for _ in range(5))
                    )
                )
            with client.socket(socket.SOCK_DGRAM) as made:
                for _ in range(20):
                    made.send(spoil(dns.query("web.front", edns=1232)))

    with Server(respond) as server:
        await daemon.names.zone("n1", RECORDS, "front")
        await daemon.names.open("c1", netns, View(zones=("n1",), upstreams=from_host(server)))
        client = Client(netns)
        pid = daemon.helper.pid
        attackers = [asyncio.create_task(ask(attack, client)) for _ in range(3)]
        for n in range(50):
            assert (await ask(patiently, client, "web")).values == ["172.18.0.2"]
            assert (await ask(patiently, client, f"good{n}.example")).values == ["1.2.3.4"]
        await asyncio.gather(*attackers)
        assert daemon.helper.pid == pid


async def test_askers_over_tcp_that_leave(daemon, netns: int) -> None:
    """With a reset, while the answer is under way: it is for nobody, and that is all."""
    release = threading.Event()

    def respond(message: bytes) -> bytes:
        release.wait(5)
        return dns.answer(message, *[f"10.1.{n % 250}.{n // 250}" for n in range(1500)])

    with Server(respond) as server:
        await daemon.names.open("c1", netns, View(upstreams=from_host(server)))
        client = Client(netns)
        pid = daemon.helper.pid
        for reset in (True, False):
            for _ in range(5):
                with client.socket(socket.SOCK_STREAM) as made:
                    dns.send_tcp(made, dns.query("a.b"))
                    if reset:
                        linger = struct.pack("ii", 1, 0)
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        release.set()
        assert len((await ask(client.ask_tcp, "c.d")).answers) == 1500
        await nobody_waits(daemon)
        assert daemon.helper.pid == pid


async def nobody_waits(daemon) -> None:
    for _ in range(5000):
        if not (await daemon.names.metrics())["in_flight"]:
            return
        await asyncio.sleep(0.002)
    pytest.fail("questions of nobody are under way")
