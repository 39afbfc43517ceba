"""Ports of the host: chosen, held and served, with the real helper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from boxwood.drivers.network import PortRequest
from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood.execution import ports as ports_module
from boxwood.execution.ports import ephemeral_range

run = asyncio.to_thread
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


class Ranged(PortRequest, frozen=True):
    """As the core's own requests are: with a range."""

    last: int = 0


def free_port() -> int:
    """A port that was free a moment ago, of both protocols and families."""
    with socket.socket(socket.AF_INET6) as made:
        made.bind(("::", 0))
        return int(made.getsockname()[1])


def bind(host: str, port: int, kind: int = TCP) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        if kind == TCP:
            made.listen()
    except OSError:
        made.close()
        raise
    return made


async def test_no_address_stands_for_both_families(daemon) -> None:
    first, last = ephemeral_range()
    held = await daemon.ports.hold("c1", [PortRequest(80, "tcp", ""), PortRequest(53, "udp", "")])
    assert [(one.protocol, one.host_ip) for one in held] == [
        ("tcp", "0.0.0.0"), ("tcp", "::"), ("udp", "0.0.0.0"), ("udp", "::")
    ]  # fmt: skip
    assert held[0].host_port == held[1].host_port
    assert held[2].host_port == held[3].host_port
    assert all(first <= one.host_port <= last for one in held)
    for one in held:
        kind = TCP if one.protocol == "tcp" else UDP
        with pytest.raises(OSError, match="in use"):
            bind(one.host_ip, one.host_port, kind)
    assert daemon.ports.held("c1") == held
    await daemon.ports.release("c1")
    await daemon.ports.release("c1")
    for one in held:
        bind(one.host_ip, one.host_port, TCP if one.protocol == "tcp" else UDP).close()
    assert (await daemon.helper.count())["ports"] == 0


@pytest.mark.parametrize("ours", [True, False])
async def test_a_taken_port(daemon, ours: bool) -> None:
    """Ours or another program's; what was bound for the same request is let go of."""
    port = free_port()
    with contextlib.ExitStack() as others:
        if ours:
            await daemon.ports.hold("c1", [PortRequest(80, "tcp", "::", port)])
        else:
            others.enter_context(bind("::", port))
        with pytest.raises(Conflict) as caught:
            await daemon.ports.hold(
                "c2", [PortRequest(81, "tcp", ""), PortRequest(80, "tcp", "", port)]
            )
        assert str(caught.value) == f"Bind for [::]:{port} failed: port is already allocated"
        bind("0.0.0.0", port).close()
        with pytest.raises(Conflict, match=rf"^Bind for \[::1\]:{port} failed: port is alr"):
            await daemon.ports.hold("c2", [PortRequest(80, "tcp", "::1", port)])
    assert daemon.ports.held("c2") == ()
    one = PortRequest(80, "tcp", "0.0.0.0", free_port())
    with pytest.raises(Conflict, match=r"^Bind for 0\.0\.0\.0:\d+ failed: port is already alloc"):
        await daemon.ports.hold("c3", [one, one])
    if ours:
        assert (await daemon.helper.count())["ports"] == 1


async def test_a_range_gives_its_first_free(daemon) -> None:
    first = next(
        n for n in range(20000, 30000, 10) if all(_is_free(port) for port in range(n, n + 3))
    )
    wanted = [Ranged(80, "tcp", "127.0.0.1", first, first + 2)]
    with bind("127.0.0.1", first):
        for number in (first + 1, first + 2):
            (held,) = await daemon.ports.hold(f"c{number}", wanted)
            assert held.host_port == number
        with pytest.raises(Conflict) as caught:
            await daemon.ports.hold("c", wanted)
    assert str(caught.value) == (
        f"Bind for 127.0.0.1:{first}-{first + 2} failed: all ports are allocated"
    )


def _is_free(port: int) -> bool:
    try:
        bind("127.0.0.1", port).close()
    except OSError:
        return False
    return True


async def test_ephemeral_ports_come_from_the_kernels_range(
    daemon, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = next(n for n in range(20000, 30000, 10) if all(_is_free(n + k) for k in range(3)))
    file = tmp_path / "range"
    file.write_text(f"{base}\t{base + 2}\n")
    monkeypatch.setattr(ports_module, "RANGE_FILE", file)
    wanted = [PortRequest(80, "tcp", "127.0.0.1")]
    found = [(await daemon.ports.hold(f"c{n}", wanted))[0].host_port for n in range(3)]
    assert sorted(found) == [base, base + 1, base + 2]
    with pytest.raises(Conflict, match="all ports are allocated"):
        await daemon.ports.hold("c4", wanted)
    await daemon.ports.release("c1")
    assert (await daemon.ports.hold("c4", wanted))[0].host_port == found[1]


async def test_an_address_that_is_not_ours(daemon) -> None:
    with pytest.raises(InvalidArgument, match="cannot assign requested address"):
        await daemon.ports.hold("c1", [PortRequest(80, "tcp", "192.0.2.1", free_port())])
    assert not daemon.helper.connected


async def test_some_are_released(daemon) -> None:
    wanted = [PortRequest(n, "tcp", "127.0.0.1") for n in (80, 81)]
    one, other = await daemon.ports.hold("c1", wanted)
    await daemon.ports.release("c1", [one])
    assert daemon.ports.held("c1") == (other,)
    bind(one.host_ip, one.host_port).close()
    with pytest.raises(OSError, match="in use"):
        bind(other.host_ip, other.host_port)


async def test_what_is_held_only_takes_nothing(daemon) -> None:
    """The kernel leads such a port; a packet that slips through meets silence, not a refusal."""
    (held,) = await daemon.ports.hold("c1", [PortRequest(80, "tcp", "127.0.0.1")])

    def connect() -> None:
        with socket.socket() as made:
            made.settimeout(0.2)
            made.connect((held.host_ip, held.host_port))

    with pytest.raises(TimeoutError):
        await run(connect)


# ---- serving


class Echo:
    """Answers ``>`` and what it got, over TCP (until half-close) and UDP, on 127.0.0.1."""

    def __init__(self) -> None:
        self.tcp = bind("127.0.0.1", 0)
        self.port = self.tcp.getsockname()[1]
        self.udp = bind("127.0.0.1", self.port, UDP)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._tcp, self._udp)]
        self._serving: list[threading.Thread] = []
        for made in (self.tcp, self.udp):
            made.settimeout(0.05)
        for thread in self._threads:
            thread.start()

    def _tcp(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self.tcp.accept()
                connection.settimeout(20)
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                self._serving.append(thread)

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(b">")
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def _udp(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data, source = self.udp.recvfrom(1 << 16)
                self.udp.sendto(b">" + data, source)

    def close(self) -> None:
        self._stop.set()
        for thread in [*self._threads, *self._serving]:
            thread.join()
        self.tcp.close()
        self.udp.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


def talk(address: tuple[str, int], data: bytes) -> bytes:
    """Send all in a thread, half-close, read to the end."""
    with socket.create_connection(address, timeout=20) as made:

        def send() -> None:
            made.sendall(data)
            made.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        found = bytearray()
        while piece := made.recv(1 << 16):
            found += piece
        thread.join()
        return bytes(found)


def is_reset(address: tuple[str, int]) -> None:
    with pytest.raises(ConnectionError), socket.create_connection(address, timeout=10) as made:
        made.recv(1)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
async def test_tcp_is_led(daemon, echo: Echo, host: str) -> None:
    """IPv6 to a target that has none, half-close, 20 MB both ways, many at once."""
    (held,) = await daemon.ports.hold("c1", [PortRequest(echo.port, "tcp", host)])
    await daemon.ports.serve("c1", [(held, "127.0.0.1")])
    address = (host, held.host_port)
    assert await run(talk, address, b"hello") == b">hello"
    assert await run(talk, address, b"") == b">"
    large = os.urandom(1 << 20) * 20
    assert await run(talk, address, large) == b">" + large
    answers = await asyncio.gather(*(run(talk, address, bytes([n]) * 5000) for n in range(100)))
    assert answers == [b">" + bytes([n]) * 5000 for n in range(100)]
    counted = await daemon.helper.count()
    assert (counted["connections"], counted["connections_now"]) == (103, 0)
    await daemon.ports.serve("c1", [])
    await run(is_reset, address)


async def test_a_reader_that_is_slow_holds_the_sender_back(daemon, echo: Echo) -> None:
    (held,) = await daemon.ports.hold("c1", [PortRequest(echo.port, "tcp", "127.0.0.1")])
    await daemon.ports.serve("c1", [(held, "127.0.0.1")])

    def pour() -> int:
        sent = 0
        with socket.create_connection((held.host_ip, held.host_port)) as made:
            made.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while sent < 200 << 20:
                    sent += made.send(b"x" * (1 << 16))
        return sent

    assert await run(pour) < 200 << 20


async def test_nobody_listens_behind(daemon) -> None:
    (held,) = await daemon.ports.hold("c1", [PortRequest(1, "tcp", "127.0.0.1")])
    await daemon.ports.serve("c1", [(held, "127.0.0.1")])
    await run(is_reset, (held.host_ip, held.host_port))
    assert (await daemon.helper.count())["connections_failed"] == 1


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "::", "0.0.0.0"])
async def test_udp_is_led(daemon, echo: Echo, host: str) -> None:
    """Each sender has its answers, from the address that it wrote to."""
    (held,) = await daemon.ports.hold("c1", [PortRequest(echo.port, "udp", host)])
    await daemon.ports.serve("c1", [(held, "127.0.0.1")])
    to = {"::": "::1", "0.0.0.0": "127.0.0.2"}.get(host, host)

    def ask(n: int) -> bytes:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, UDP) as made:
            made.settimeout(1)
            made.connect((to, held.host_port))
            for _ in range(20):  # a busy machine may lose a datagram
                made.send(str(n).encode())
                with contextlib.suppress(TimeoutError):
                    return made.recv(1 << 16)
        pytest.fail("no answer in twenty seconds")

    large = b"1" * 4000
    assert await run(ask, int(large)) == b">" + large
    answers = await asyncio.gather(*(run(ask, n) for n in range(30)))
    assert answers == [b">%d" % n for n in range(30)]
    # One for each sender; the kernel may have given a sender the port of an earlier one.
    assert 0 < (await daemon.helper.count())["flows_now"] <= 31
    await daemon.ports.release("c1")
    assert (await daemon.helper.count())["flows_now"] == 0


async def test_serving_what_is_not_held(daemon) -> None:
    await daemon.ports.hold("c1", [PortRequest(80, "tcp", "127.0.0.1")])
    with pytest.raises(NotFound):
        await daemon.ports.serve("c2", [(PortRequest(80, "tcp", "127.0.0.1", 1), "127.0.0.1")])


# ---- without a daemon, and after it


async def test_connections_go_on_without_a_daemon(daemon, echo: Echo) -> None:
    (held,) = await daemon.ports.hold("c1", [PortRequest(echo.port, "tcp", "127.0.0.1")])
    (gone,) = await daemon.ports.hold("c2", [PortRequest(80, "tcp", "127.0.0.1")])
    await daemon.ports.serve("c1", [(held, "127.0.0.1")])
    with socket.create_connection((held.host_ip, held.host_port), timeout=10) as made:
        assert made.recv(10) == b">"
        await daemon.vanish()
        made.sendall(b"one")
        assert await run(made.recv, 10) == b"one"
        assert await run(talk, (held.host_ip, held.host_port), b"new") == b">new"
        daemon.__init__(daemon.folder)
        more = PortRequest(81, "tcp", "127.0.0.1", free_port())
        assert await daemon.ports.reconcile({"c1": {held: "127.0.0.1", more: ""}}) == []
        made.sendall(b"two")
        assert await run(made.recv, 10) == b"two"
    bind(gone.host_ip, gone.host_port).close()
    with pytest.raises(OSError, match="in use"):
        bind(more.host_ip, more.host_port)
    assert set(daemon.ports.held("c1")) == {held, more}


async def test_a_port_that_was_lost_is_named(daemon) -> None:
    port = free_port()
    with bind("127.0.0.1", port):
        lost = await daemon.ports.reconcile({"c1": {PortRequest(80, "tcp", "127.0.0.1", port): ""}})
    # The helper was started for it: that is told to the log.
    assert lost == [] or "already allocated" in lost[0]
    assert daemon.ports.held("c1") == ()


def test_a_request_with_a_range_is_a_value() -> None:
    one = Ranged(80, "tcp", "", 8000, 8010)
    assert msgspec.structs.replace(one, last=8011) != one
