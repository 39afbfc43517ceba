"""Egress policies through the engine: as a client says them, held, shown, and gone with their
container. What they let through and what not is tried in tests/integration/names/test_egress.py.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boxwood.execution.egress import tag_of
from tests.support import dns
from tests.support.dns import Server
from tests.support.engine import Engine
from tests.support.needs import until

pytestmark = pytest.mark.root

TARGET = "192.0.2.77"


@pytest.fixture
def engine(clean_engine: Engine) -> Iterator[Engine]:
    """The shared engine, without containers afterwards."""
    yield clean_engine
    clean_engine.remove_containers()


@pytest.fixture
def server() -> Iterator[Server]:
    """Knows every name."""
    address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.53"
    with Server(lambda message: dns.answer(message, TARGET), address, port=53) as made:
        yield made


def table(engine: Engine) -> str:
    return f"boxwood-egress{tag_of(engine.exec_root)}"


def listed(engine: Engine, what: str, name: str) -> list[Any]:
    """The elements of a set of the engine's table."""
    command = ["nft", "-j", "list", "set", "inet", table(engine), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = next(one["set"] for one in json.loads(done.stdout)["nftables"] if "set" in one)
    return list(found.get(what, []))


def run(engine: Engine, *words: str) -> str:
    done = engine.cli("run", "-d", *words, "busybox", "sleep", "1000", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("network", ["bridge", "own"])
def test_a_policy_is_held_and_gone(engine: Engine, server: Server, network: str) -> None:
    if network == "own":
        engine.cli("network", "create", "own")
    box = run(
        engine, "--network", network, "--dns", server.address,
        "--egress", "allow=good.example:443", "--egress", "allow=10.0.0.0/8",
    )  # fmt: skip
    try:
        address = listed(engine, "elem", "limited4")
        assert len(address) == 1
        shown = engine.cli("exec", box, "cat", "/etc/resolv.conf").stdout
        assert "nameserver 127.0.0.11" in shown
        failed = engine.cli("exec", box, "nslookup", "-type=a", "bad.example", check=False)
        assert failed.returncode
        assert server.asked == []
        asked = engine.cli("exec", box, "nslookup", "-type=a", "good.example")
        assert TARGET in asked.stdout
        (opened,) = listed(engine, "elem", "ports4")
        assert opened["elem"]["val"]["concat"] == [address[0], TARGET, "tcp", 443]
        metrics = engine.api("GET", "/boxwood/metrics").body.decode().splitlines()
        measured = dict(line.split() for line in metrics if not line.startswith("#"))
        assert int(measured["boxwood_dns_answered_total"]) >= 1
        assert float(measured["boxwood_dns_seconds_total"]) > 0
        log = engine.cli("logs", "--network", box).stdout
        assert " refused 1 bad.example\n" in log
        refused = engine.cli("exec", box, "nc", "-w", "5", TARGET, "80", check=False)
        assert refused.returncode
        assert "refused" in refused.stderr
        log = engine.cli("logs", "--network", box).stdout
        assert f" refused 1 {TARGET}:80/tcp\n" in log
        engine.cli("stop", "-t", "0", box)
        assert f" refused 1 {TARGET}:80/tcp\n" in engine.cli("logs", "--network", box).stdout
    finally:
        engine.cli("rm", "-f", box)
        if network == "own":
            engine.cli("network", "rm", "own")
    command = ["nft", "list", "table", "inet", table(engine)]
    assert subprocess.run(command, capture_output=True, check=False).returncode


def test_a_policy_outlives_the_daemon(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    box = run(engine, "--egress", "deny")
    other = run(engine, "--egress", "allow=10.0.0.0/8")
    for address in (TARGET, "192.0.2.78"):
        engine.cli("exec", box, "nc", "-w", "5", address, "80", check=False)
    engine.cli("exec", box, "nslookup", "-type=a", "bad.example", check=False)
    asked = engine.data_root / "containers" / box / "egress.json"
    until(lambda: asked.exists() and b"bad.example" in asked.read_bytes(), "it is on disk")
    before = listed(engine, "elem", "limited4")
    assert len(before) == 2
    engine.kill()
    assert listed(engine, "elem", "limited4") == before
    engine.start()
    assert listed(engine, "elem", "limited4") == before
    log = engine.cli("logs", "--network", box).stdout
    for refused in ("bad.example", f"{TARGET}:80/tcp", "192.0.2.78:80/tcp"):
        assert f" refused 1 {refused}\n" in log
    engine.cli("rm", "-f", other)
    assert len(listed(engine, "elem", "limited4")) == 1
    subprocess.run(["nft", "delete", "table", "inet", table(engine)], check=True)
    until(lambda: engine_table(engine), "the table is put back")
    assert len(listed(engine, "elem", "limited4")) == 1
    engine.cli("rm", "-f", box)


def engine_table(engine: Engine) -> bool:
    command = ["nft", "list", "set", "inet", table(engine), "limited4"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_host_is_closed_but_to_a_subnet(engine: Engine) -> None:
    """On the default bridge, by its gateway."""
    details = json.loads(engine.cli("network", "inspect", "bridge").stdout)
    gateway = details[0]["IPAM"]["Config"][0]["Gateway"]
    with socket.socket() as listener:
        listener.bind((gateway, 0))
        listener.listen()
        port = listener.getsockname()[1]
        listener.settimeout(20)

        def greet() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"hello")

        ask = ("busybox", "nc", "-w", "5", gateway, str(port))
        refused = engine.cli("run", "--rm", "--egress", "deny", *ask, check=False)
        assert "refused" in refused.stderr
        thread = threading.Thread(target=greet)
        thread.start()
        allowed = f"allow={gateway}/32:{port}"
        assert engine.cli("run", "--rm", "--egress", allowed, *ask).stdout == "hello"
        thread.join()


def test_learning(engine: Engine, server: Server) -> None:
    box = run(engine, "--dns", server.address, "--network", "bridge", "--egress", "learn")
    for name in ("b.example", "a.example"):
        engine.cli("exec", box, "nslookup", "-type=a", name)
    lines = engine.cli("logs", "--network", box).stdout.splitlines()
    assert lines[-1] == "--egress allow=a.example,b.example"


def test_by_annotation_and_by_label(engine: Engine) -> None:
    engine.cli("network", "create", "--label", "boxwood.egress=deny", "closed")
    try:
        boxes = [
            run(engine, "--annotation", "boxwood.egress=deny"),
            run(engine, "--network", "closed"),
            run(engine, "--network", "closed", "--egress", "learn"),
        ]
        assert len(listed(engine, "elem", "limited4")) == 2
        engine.cli("rm", "-f", *boxes)
    finally:
        engine.cli("network", "rm", "closed")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--egress", "permit"), "invalid egress: permit"),
        (("--egress", "allow=a:0"), "invalid egress: a:0: port 0"),
        (("--egress", "deny", "--network", "host"), "network mode host cannot be limited"),
        (("--egress", "deny", "--network", "container:other"), "cannot be limited"),
    ],
)
def test_what_cannot_be_kept_is_refused(engine: Engine, words: tuple[str, ...], text: str) -> None:
    run(engine, "--name", "other")
    done = engine.cli("run", "--rm", *words, "busybox", "true", check=False)
    assert done.returncode == 125
    assert text in done.stderr


def test_no_policy_no_log(engine: Engine) -> None:
    done = engine.cli("logs", "--network", run(engine), check=False)
    assert done.returncode
    assert "no egress policy" in done.stderr
