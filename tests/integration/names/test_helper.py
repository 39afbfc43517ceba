"""The helper's life: who it is, what it may do, a daemon that dies, a helper that dies, another
build."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwood.drivers.network import PortRequest
from boxwood.errors import NotFound, Unavailable
from boxwood.execution import helper as helper_module
from boxwood.execution.names import Upstream, View
from boxwood_ext import helper_protocol as protocol
from boxwood_ext.net import make_namespace
from tests.support import dns
from tests.support.dns import Client, Server
from tests.support.needs import until

ask = asyncio.to_thread
not_sanitized = pytest.mark.skipif(
    "BOXWOOD_SANITIZE" in os.environ, reason="the sanitizers need memory and files"
)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_over(pid: int) -> bool:
    """Has the process ended, reaped or not?"""
    try:
        return status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_nobody_is_started_before_it_is_needed(daemon, netns: int) -> None:
    await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
    assert await daemon.names.metrics() == {}
    await daemon.names.reconcile({}, {})
    assert await daemon.ports.reconcile({}) == []
    assert not daemon.helper.connected
    await daemon.names.open("c1", netns, View(zones=("n1",)))
    assert (await ask(Client(netns).ask, "web")).values == ["10.0.0.1"]


@not_sanitized
async def test_it_is_confined(daemon, netns: int) -> None:
    await daemon.names.open("c1", netns, View())
    found = status(daemon.helper.pid)
    assert found["Name"] == "boxwood-helper"
    assert found["Uid"].split() == ["65534"] * 4
    assert found["Gid"].split() == ["65534"] * 4
    assert found["Groups"] == ""
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    assert (found["NoNewPrivs"], found["Seccomp"], found["Threads"]) == ("1", "2", "1")


@not_sanitized
async def test_it_is_small(daemon, namespaces: Callable[[], int]) -> None:
    """Private memory, with 100 sandboxes and a network of 200 names: below one MiB."""
    records = {f"c{n}": (f"10.0.{n}.1", f"fd00::{n + 1:x}") for n in range(200)}
    await daemon.names.zone("n1", records, "front")
    netns = namespaces()
    for n in range(100):
        await daemon.names.open(f"c{n}", netns, View(zones=("n1",)))
    assert (await ask(Client(netns).ask, "c7")).values == ["10.0.7.1"]
    rollup = Path(f"/proc/{daemon.helper.pid}/smaps_rollup").read_text()
    private = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
    )
    assert private < 1024, rollup


async def test_it_ends_when_it_holds_nothing(daemon, netns: int) -> None:
    await daemon.names.open("c1", netns, View())
    pid = daemon.helper.pid
    await daemon.names.close("c1")
    await daemon.names.close("c1")
    await daemon.vanish()
    await ask(until, lambda: is_over(pid), "it ends")


async def test_a_namespace_goes_when_its_sandbox_is_closed(daemon) -> None:
    """A socket holds its namespace: what is closed must be let go of by everybody."""
    netns = make_namespace()
    await daemon.names.open("c1", netns, View(upstreams=(Upstream("10.0.0.1", inside=True),)))
    os.close(netns)
    folder = Path(f"/proc/{daemon.helper.pid}/fd")
    before = len(list(folder.iterdir()))
    await daemon.names.close("c1")
    assert len(list(folder.iterdir())) == before - 2 - 20
    with pytest.raises(NotFound):
        await daemon.names.change("c1", View())


# ---- daemons that come and go


async def test_names_go_on_without_a_daemon(daemon, netns: int) -> None:
    """The daemon vanishes while four threads ask: no question is lost, the next takes up."""
    stop = threading.Event()
    failures: list[str] = []
    asked = [0]

    def keep_asking(n: int) -> None:
        client = Client(netns, seconds=4)
        while not stop.is_set():
            try:
                reply = client.ask("web") if n % 2 else client.ask_tcp("other.example")
                asked[0] += 1
                if reply.values not in (["10.0.0.1"], ["1.2.3.4"]):
                    failures.append(str(reply))
            except (OSError, struct.error) as error:
                failures.append(repr(error))

    with Server(lambda message: dns.answer(message, "1.2.3.4")) as server:
        upstreams = (Upstream(server.address, server.port),)
        view = View(zones=("n1",), upstreams=upstreams)
        await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
        await daemon.names.open("c1", netns, view)
        threads = [threading.Thread(target=keep_asking, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                pid = daemon.helper.pid
                await daemon.vanish()
                before = asked[0]
                await ask(
                    until, lambda before=before: asked[0] > before + 20, "questions are answered"
                )
                daemon.__init__(daemon.folder)
                zones = {"n1": ({"web": ("10.0.0.1",)}, "")}
                await daemon.names.reconcile({"c1": (os.getpid(), view)}, zones)
                assert daemon.helper.pid == pid
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []


async def test_what_went_meanwhile_is_closed(daemon, namespaces: Callable[[], int]) -> None:
    stays, goes = namespaces(), namespaces()
    for name, netns in (("c1", stays), ("c2", goes)):
        await daemon.names.open(name, netns, View(zones=("n1",)))
    await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
    await daemon.vanish()
    daemon.__init__(daemon.folder)
    view = View(zones=("n2",))
    await daemon.names.reconcile({"c1": (os.getpid(), view)}, {"n2": ({"new": ("10.0.0.2",)}, "")})
    assert (await ask(Client(stays).ask, "new")).values == ["10.0.0.2"]
    counted = await daemon.names.metrics()
    assert (counted["sandboxes"], counted["zones"]) == (1, 1)


async def test_a_helper_that_is_killed_is_replaced(daemon, namespaces: Callable[[], int]) -> None:
    """With new sockets and rules in each namespace; held ports are bound again."""
    sandboxes = {f"c{n}": namespaces() for n in range(3)}
    await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
    for name, netns in sandboxes.items():
        await daemon.names.open(name, netns, View(zones=("n1",)))
    (held,) = await daemon.ports.hold("c1", [PortRequest(80, "tcp", "127.0.0.1")])
    for _ in range(2):
        pid = daemon.helper.pid
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: daemon.helper.connected and daemon.helper.pid != pid)
        await daemon.helper.ensure()
        for netns in sandboxes.values():
            assert (await ask(Client(netns).ask, "web")).values == ["10.0.0.1"]
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.bind((held.host_ip, held.host_port))


async def eventually(condition: Callable[[], object]) -> None:
    """Give the loop its turns until the condition holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it does not come")


async def test_one_of_another_build_hands_over(
    daemon, netns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sockets stay, so do the rules; a question that waits is answered by the old one."""
    release = threading.Event()

    def respond(message: bytes) -> bytes:
        release.wait(3 if b"slow" in message else 0)
        return dns.answer(message, "1.2.3.4")

    with Server(respond) as server:
        view = View(zones=("n1",), upstreams=(Upstream(server.address, server.port),))
        await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
        await daemon.names.open("c1", netns, view)
        (held,) = await daemon.ports.hold("c1", [PortRequest(80, "tcp", "127.0.0.1")])
        old = daemon.helper.pid
        with Client(netns).socket(socket.SOCK_DGRAM) as waiting:
            waiting.send(dns.query("slow.example"))
            await eventually(lambda: server.asked)
            await daemon.vanish()
            executable, _ = helper_module._executable()
            monkeypatch.setattr(helper_module, "_executable", lambda: (executable, "newer"))
            daemon.__init__(daemon.folder)
            await daemon.names.reconcile(
                {"c1": (os.getpid(), view)}, {"n1": ({"web": ("10.0.0.2",)}, "")}
            )
            assert await daemon.ports.reconcile({"c1": {held: ""}}) == []
            daemon.helper.drop_given()
            assert daemon.helper.pid != old
            assert (await ask(Client(netns).ask, "web")).values == ["10.0.0.2"]
            release.set()
            assert dns.read(await ask(waiting.recv, 512)).values == ["1.2.3.4"]
        await ask(until, lambda: is_over(old), "the old one ends")
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.bind((held.host_ip, held.host_port))


async def test_one_that_speaks_otherwise_is_replaced(daemon, netns: int) -> None:
    """Nobody listens in the end, whatever stood in its place."""
    listener = helper_module.listen_at(daemon.folder, helper_module.SOCKET)
    listener.setblocking(True)

    def speak() -> None:
        connection, _ = listener.accept()
        connection.send(b"what?")
        connection.close()
        listener.close()

    thread = threading.Thread(target=speak)
    thread.start()
    await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
    await daemon.names.open("c1", netns, View(zones=("n1",)))
    thread.join()
    assert (await ask(Client(netns).ask, "web")).values == ["10.0.0.1"]


# ---- the control socket


def raw_connection(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(str(folder / helper_module.SOCKET))
    return connection


async def test_nonsense_is_hung_up_on(daemon, netns: int) -> None:
    await daemon.names.zone("n1", {"web": ("10.0.0.1",)})
    await daemon.names.open("c1", netns, View(zones=("n1",)))
    pid = daemon.helper.pid
    await daemon.vanish()
    good = protocol.encode("close", 1, "c1")
    for message in (b"x", good[:-1], good + b"\0" * 8, b"\2" + good[1:], b"\0" * 100):
        with raw_connection(daemon.folder) as connection:
            connection.send(message)
            while data := connection.recv(1 << 16):
                assert protocol.decode(data).name in ("present", "ready")
    for item in (
        ("view", 1, "c9", (), b"", b"", 0, 0, ()),
        ("view", 1, "c1", ("n" * 80,), b"", b"", 0, 0, ()),
        ("view", 1, "c1", (), b"\5abc", b"", 0, 0, ()),
        ("view", 1, "c1", (), b"", b"\0\5\0\0", 0, 0, ()),
        ("zone", 1, "n1", "", 1, b"\1a\1\5abcde"),
        ("zone", 1, "n" * 80, "", 1, b""),
        ("zone", 1, "n1", "d" * 250, 1, b""),
        ("hold", 1, "c1", ("tcp/x",)),
        ("serve", 1, "c1", "tcp/x", b"123456"),
    ):
        with raw_connection(daemon.folder) as connection:
            connection.send(protocol.encode(item[0], *item[1:]))
            while (answer := protocol.decode(connection.recv(1 << 16))).name != "reply":
                pass
            assert answer.values[1], item
    daemon.__init__(daemon.folder)
    assert await daemon.helper.adopt()
    assert daemon.helper.pid == pid
    assert (await ask(Client(netns).ask, "web")).values == ["10.0.0.1"]
    await daemon.names.reconcile({}, {})


async def test_strangers_are_not_let_in(daemon, netns: int) -> None:
    await daemon.names.open("c1", netns, View())
    mode = (daemon.folder / helper_module.SOCKET).stat().st_mode
    assert mode & 0o777 == 0o600


async def test_no_folder(tmp_path: Path, netns: int) -> None:
    made = helper_module.Helper(tmp_path / "not" / "there")
    with pytest.raises(Unavailable):
        await made.ensure()
    await made.close()
