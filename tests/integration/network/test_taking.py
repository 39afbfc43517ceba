"""Published ports that another container takes over: no connection fails, none is cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.needs import until
from tests.support.visitor import Visitor

pytestmark = pytest.mark.root

SERVE = "echo {0} >index.html; exec httpd -f -p 80"
ECHO = ("nc", "-ll", "-p", "81", "-e", "cat")


def start(house: Engine, name: str, *flags: str) -> None:
    """Run a small web server that says its name."""
    house.cli("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", SERVE.format(name))


@pytest.fixture
def house(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine with a server ``old`` that is published, and ``new`` that is not."""
    clean_engine.cli("network", "create", "--ipv6", "side")
    try:
        start(clean_engine, "old", "-p", "127.0.0.1::80", "-p", "[::1]::81")
        start(clean_engine, "new", "--network", "side")
        yield clean_engine
    finally:
        clean_engine.remove_containers()
        clean_engine.cli("network", "rm", "side")


def port_of(house: Engine, name: str, key: str = "80") -> int:
    return int(house.cli("port", name, key).stdout.strip().rpartition(":")[2])


def answers(port: int) -> bool:
    """Does somebody listen there?"""
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except OSError:
        return False
    return True


def test_no_visitor_notices(house: Engine) -> None:
    """There and back twenty times, from one network to another, under visits."""
    port = port_of(house, "old")
    visitor = Visitor(port)
    visitor.start()
    try:
        until(lambda: visitor.seen, "the first visit")
        for round_ in range(10):
            for giver, taker in (("old", "new"), ("new", "old")):
                before = len(visitor.seen)
                house.cli("update", "--publish-from", f"{giver}:80", taker)
                until(
                    lambda taker=taker, before=before: taker in visitor.seen[before + 2 :],
                    f"the visitor meets {taker} in round {round_}: {visitor.failures}",
                    seconds=40,
                )
    finally:
        visitor.stop()
    assert visitor.failures == []
    assert port_of(house, "old") == port


def test_what_is_connected_stays(house: Engine) -> None:
    """A connection that was made before goes on with whom it was made."""
    house.cli("exec", "-d", "old", *ECHO)
    house.cli("update", "--publish-add", "127.0.0.1::81", "old")
    port = port_of(house, "old", "81")
    until(lambda: answers(port), "it listens")
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.sendall(b"before")
        assert line.recv(100) == b"before"
        house.cli("update", "--publish-from", "old", "new")
        line.sendall(b"after")
        assert line.recv(100) == b"after"
    assert house.cli("port", "old").stdout == ""
    assert port_of(house, "new", "81") == port


def test_it_is_remembered(house: Engine) -> None:
    """The taker publishes the same numbers after a restart, the giver none, IPv6 included."""
    before = house.cli("port", "old").stdout
    house.cli("update", "--publish-from", "old", "new")
    assert house.cli("port", "new").stdout == before
    house.cli("restart", "-t", "0", "old", "new")
    assert house.cli("port", "new").stdout == before
    assert house.cli("port", "old").stdout == ""


def test_what_cannot_be_taken(house: Engine) -> None:
    """Each in one sentence, and nothing has changed."""
    before = house.cli("port", "old").stdout
    start(house, "lonely", "--network", "none")
    for giver, taker, words in (
        ("old:99", "new", "port 99/tcp is not published"),
        ("new", "old", "container new publishes no ports"),
        ("old", "old", "cannot take over its own ports"),
        ("nobody", "new", "No such container: nobody"),
        ("old:x", "new", 'invalid port specification: "x"'),
        ("old", "lonely", "its networks publish no ports"),
    ):
        refused = house.cli("update", "--publish-from", giver, taker, check=False)
        assert refused.returncode == 1
        assert words in refused.stderr
    house.cli("stop", "-t", "0", "new")
    refused = house.cli("update", "--publish-from", "old", "new", check=False)
    assert "is not running" in refused.stderr
    assert house.cli("port", "old").stdout == before
