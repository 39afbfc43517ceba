"""Networks under load: many starts at once, many on one bridge, many short connections."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.fields.box import Api, Box
from tests.load.footprint import at_rest, settled
from tests.load.runs import connected
from tests.support.engine import Engine, running
from tests.support.needs import need_root, until
from tests.support.networks import links_of, tag_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

NETWORK = "crowd"
AT_ONCE = 64
NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh/default")
ALLOWANCE = 4096
"""KiB that the daemon may keep: its allocator does not give back all that so many records took."""


@pytest.fixture(scope="module")
def crowded() -> Iterator[Engine]:
    """An engine with a network of a user's."""
    need_root()
    with running(Engine()) as server:
        assert isinstance(server, Engine)
        assert server.api("POST", "/networks/create", {"Name": NETWORK}).status == 201
        yield server
        server.remove_containers()
        assert server.api("DELETE", f"/networks/{NETWORK}").status == 204


@pytest.fixture
def engine(crowded: Engine) -> Iterator[Engine]:
    """The engine without containers, before and after."""
    yield crowded
    crowded.remove_containers()


def start(engine: Engine, number: int, **host: Any) -> str:
    """Start a server on port 80 that says its number to everybody; returns its id."""
    body = {
        "Image": "busybox",
        "Cmd": ["nc", "-ll", "-p", "80", "-e", "echo", f"number {number}"],
        "HostConfig": {"NetworkMode": NETWORK, **host},
    }
    with connected(engine) as api:
        status, answer = api.ask("POST", f"/containers/create?name=c{number}", body)
        assert status == 201, answer
        key: str = json.loads(answer)["Id"]
        status, answer = api.ask("POST", f"/containers/{key}/start")
        assert status == 204, answer
    until(lambda: listens(key, engine), f"c{number} listens")
    return key


def listens(key: str, engine: Engine) -> bool:
    """Whether the server of a container has come to listen on port 80."""
    pid = engine.api("GET", f"/containers/{key}/json").json()["State"]["Pid"]
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    return any(re.search(r":0050 \S+ 0A ", table) for table in tables)


def start_all(engine: Engine, count: int, **host: Any) -> list[str]:
    """Start servers 0 to ``count``, all at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda number: start(engine, number, **host), range(count)))


def remove_all(engine: Engine, keys: list[str]) -> None:
    """Remove containers, all at once."""

    def remove(key: str) -> int:
        return engine.api("DELETE", f"/containers/{key}?force=1", timeout=120).status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(remove, keys)) == {204}


def said(port: int) -> str:
    """What a server on a port of the loopback says."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        return client.makefile().readline().strip()


def port_of(engine: Engine, key: str) -> int:
    """The host's port of a server."""
    shown = engine.api("GET", f"/containers/{key}/json").json()["NetworkSettings"]
    return int(shown["Ports"]["80/tcp"][0]["HostPort"])


PUBLISHED = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}}


def test_started_at_once(engine: Engine) -> None:
    """Each has an address, a port and a name of its own; at the end the host is as before."""
    remove_all(engine, start_all(engine, AT_ONCE, **PUBLISHED))
    before, links = at_rest(engine), links_of(engine.exec_root)
    keys = start_all(engine, AT_ONCE, **PUBLISHED)
    shown = [engine.api("GET", f"/containers/{key}/json").json()["NetworkSettings"] for key in keys]
    assert len({one["Networks"][NETWORK]["IPAddress"] for one in shown}) == AT_ONCE
    ports = [int(one["Ports"]["80/tcp"][0]["HostPort"]) for one in shown]
    assert len(set(ports)) == AT_ONCE
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(said, ports)) == [f"number {number}" for number in range(AT_ONCE)]
    assert len(links_of(engine.exec_root)) == len(links) + AT_ONCE
    remove_all(engine, keys)
    until(lambda: links_of(engine.exec_root) == links, "every link is gone", seconds=30)
    left = settled(engine, before, ALLOWANCE)
    assert not left, "left by the crowd:\n  " + "\n  ".join(left)


def test_a_thousand_bridges(engine: Engine, soak: bool) -> None:
    """Of the driver ``bridge``: more than Docker's pools have, each with its link and subnet; they
    are there after a restart, take containers, and go without a trace."""
    count = 1000 if soak else 40
    tables = ("list table inet", "list table bridge")
    links = links_of(engine.exec_root)
    rules = [described(engine, table) for table in tables]
    with connected(engine) as api:
        for number in range(count):
            body = {"Name": f"n{number}", "Labels": {"load": "bridges"}}
            status, answer = api.ask("POST", "/networks/create", body)
            assert status == 201, answer
    made = links_of(engine.exec_root).keys() - links.keys()
    assert len(made) == count
    assert len({one["dst"] for one in routes() if one.get("dev", "") in made}) == count
    engine.kill()
    engine.start()
    assert len(links_of(engine.exec_root)) == len(links) + count
    first = start(engine, 0, **(PUBLISHED | {"NetworkMode": "n0"}))
    last = start(engine, 1, **(PUBLISHED | {"NetworkMode": f"n{count - 1}"}))
    assert [said(port_of(engine, key)) for key in (first, last)] == ["number 0", "number 1"]
    remove_all(engine, [first, last])
    path = f"/networks/prune?filters={quote(json.dumps({'label': ['load=bridges']}))}"
    assert len(engine.api("POST", path, timeout=300).json()["NetworksDeleted"]) == count
    until(lambda: links_of(engine.exec_root) == links, "every bridge is gone", seconds=60)
    assert [described(engine, table) for table in tables] == rules


def routes() -> list[dict[str, str]]:
    """The host's routes."""
    said = subprocess.run(["ip", "-j", "-4", "route"], capture_output=True, check=True).stdout
    found: list[dict[str, str]] = json.loads(said)
    return found


def described(engine: Engine, command: str) -> str:
    """A table of the engine's in the packet filter."""
    words = ["nft", *command.split(), tag_of(engine.exec_root)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def neighbours(soak: bool) -> Iterator[None]:
    """Room for who knows whom: the kernel's table of neighbours is one for all namespaces.

    It holds 1,024, and drops connections beyond that; in a crowd of 200 there are 40,000.
    """
    if not soak:
        yield
        return
    before = {path: path.read_text() for path in sorted(NEIGHBOURS.glob("gc_thresh?"))}
    for path in before:
        path.write_text("100000")
    yield
    for path, text in before.items():
        path.write_text(text)


@pytest.mark.usefixtures("neighbours")
def test_everybody_reaches_everybody(engine: Engine, soak: bool) -> None:
    """By name, on one bridge."""
    count = 200 if soak else 20
    keys = start_all(engine, count)
    names = " ".join(f"c{number}" for number in range(count))
    wanted = [f"number {number}" for number in range(count)]

    def ask(key: str) -> list[str]:
        api = Api(engine)
        try:
            return (
                Box(api, key)
                .sh(f"for n in {names}; do nc $n 80 </dev/null || echo $n failed; done")
                .splitlines()
            )
        finally:
            api.connection.close()

    with ThreadPoolExecutor(4) as pool:
        for key, heard in zip(keys, pool.map(ask, keys), strict=True):
            assert heard == wanted, key
    remove_all(engine, keys)


def test_short_connections_while_the_daemon_dies(engine: Engine, soak: bool) -> None:
    """Each is answered, whether there is a daemon or not."""
    count = 10_000 if soak else 1000
    (key,) = start_all(engine, 1, **PUBLISHED)
    port = port_of(engine, key)
    half, killed = threading.Event(), threading.Event()

    def connect(number: int) -> str:
        if number == count // 2:
            half.set()
            killed.wait(60)
        return said(port)

    def interrupt() -> None:
        half.wait(600)
        engine.kill()
        killed.set()

    killer = threading.Thread(target=interrupt)
    killer.start()
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(connect, range(count)))
        killer.join()
        assert answers == {"number 0"}
        engine.start()
        assert set(pool.map(connect, range(100))) == {"number 0"}
    assert port_of(engine, key) == port
