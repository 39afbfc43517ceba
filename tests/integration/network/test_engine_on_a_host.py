"""An engine on a host of its own: its rules flushed, foreign ones, attacks from inside."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import frames
from tests.support.engine import Engine
from tests.support.needs import need_root, until
from tests.support.netlab import QUIET_SECONDS, Box, Lab

SERVE = ("nc", "-ll", "-p", "80", "-e", "echo", "hello")


@pytest.fixture
def engine(host: Lab) -> Iterator[Engine]:
    """An engine that has a whole host's network to itself."""
    need_root()
    server = Engine()
    try:
        host.do(server.start)
        server.add_busybox()
        yield server
    finally:
        host.do(server.close)


def started(engine: Engine, name: str, *flags: str) -> dict[str, Any]:
    """Start a server of greetings; return what inspect says."""
    engine.docker("run", "-d", "--name", name, *flags, "busybox", *SERVE)
    found: dict[str, Any] = json.loads(engine.docker("inspect", name).stdout)[0]
    return found


def endpoint(found: dict[str, Any]) -> dict[str, str]:
    (only,) = found["NetworkSettings"]["Networks"].values()
    return dict(only)


def greets(box: Box, address: str, port: int) -> bool:
    try:
        return box.ask(address, port) == "hello\n"
    except OSError:
        return False


def inside(found: dict[str, Any]) -> Box:
    """The container's network namespace, for one who has root in it."""
    return Box(os.open(f"/proc/{found['State']['Pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC))


def test_rules_that_others_flush_come_back_and_an_event_says_so(host: Lab, engine: Engine) -> None:
    started(engine, "web", "-p", "8080:80")
    until(lambda: greets(host.outside, host.HERE, 8080), "the published port answers")
    before = host.sh("nft -s list ruleset")
    since = time.time()
    host.sh("nft flush ruleset")
    until(lambda: host.sh("nft -s list ruleset") == before, "the rules are back")
    assert greets(host.outside, host.HERE, 8080)
    query = f"/events?since={since:.6f}&until={time.time() + 1:.6f}"
    query += "&filters=%7B%22type%22%3A%5B%22network%22%5D%7D"
    told = [json.loads(line) for line in engine.api("GET", query).body.splitlines()]
    assert [event["Action"] for event in told] == ["restore"]
    assert "restored" in told[0]["Actor"]["Attributes"]["message"]


def findings(engine: Engine) -> list[dict[str, str]]:
    return [one for one in engine.api("GET", "/boxwood/doctor").json() if "network" in one["name"]]


def test_doctor_says_who_else_drops(host: Lab, engine: Engine) -> None:
    assert [one["state"] for one in findings(engine)] == ["ok"]
    host.sh("iptables -P FORWARD DROP")
    (one,) = findings(engine)
    assert (one["name"], one["state"]) == ("network bridge", "warn")
    assert "ip filter drops what is forwarded" in one["detail"]
    assert one["advice"].startswith("iptables -I FORWARD -i br-")
    host.sh("iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER")
    until(lambda: [one["state"] for one in findings(engine)] == ["ok", "ok"], "the rule is there")
    assert any("ip filter DOCKER-USER" in one["detail"] for one in findings(engine))
    host.sh("nft add table inet fw; nft add chain inet fw f "
            "'{ type filter hook forward priority 0; policy drop; }'")  # fmt: skip
    assert any("inet fw f drops" in one["detail"] for one in findings(engine))
    host.sh("nft delete table inet fw; sysctl -qw net.ipv4.ip_forward=0")
    assert any("forwards no packets" in one["detail"] for one in findings(engine))


def test_beside_a_firewall_that_drops(host: Lab, engine: Engine) -> None:
    host.sh("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER")
    started(engine, "web", "-p", "8080:80")
    until(lambda: greets(host.outside, host.HERE, 8080), "the published port answers")
    with host.outside.server():
        said = engine.docker("exec", "web", "nc", "-w", "5", host.OUTSIDE, "80").stdout
    assert said == host.HERE


def test_attacks_from_inside(host: Lab, engine: Engine) -> None:
    """From a container that has every capability over its own network."""
    for name in ("one", "two"):
        engine.docker("network", "create", name)
    evil = started(engine, "evil", "--network", "one", "--cap-add", "NET_ADMIN")
    near = started(engine, "near", "--network", "one")
    far = started(engine, "far", "--network", "two", "-p", "127.0.0.1:8081:80")
    victim, attacker = inside(near), inside(evil)
    mine, its, foreign = endpoint(evil), endpoint(near), endpoint(far)
    try:
        until(lambda: greets(attacker, its["IPAddress"], 80), "a neighbour answers")
        until(lambda: greets(host, "127.0.0.1", 8081), "the host's own port answers")
        assert not attacker.reaches(foreign["IPAddress"], 80), "another network"
        assert not attacker.reaches(mine["Gateway"], 8081), "published on the loopback"
        assert not attacker.reaches(foreign["Gateway"], 8081)
        attacker.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1")
        attacker.sh(f"ip route add 127.0.0.1 via {mine['Gateway']} table 9; "
                    "ip rule add to 127.0.0.1 table 9 pref 1; ip rule del pref 0; "
                    "ip rule add pref 2 table local")  # fmt: skip
        with host.server(9, "127.0.0.1") as seen:
            assert not attacker.reaches("127.0.0.1", 9), "the host's loopback"
        assert seen == []
        claim = frames.arp_reply(
            mine["MacAddress"],
            its["MacAddress"],
            claims=(mine["MacAddress"], its["Gateway"]),
            to=(its["MacAddress"], its["IPAddress"]),
        )
        with host.server():
            assert victim.reaches(its["Gateway"], 80, seconds=20)
        for _ in range(5):
            attacker.send_frame(claim)
        time.sleep(QUIET_SECONDS)
        known = victim.sh(f"ip neigh show {its['Gateway']}")
        assert mine["MacAddress"] not in known, "the gateway's address"
        forged = frames.udp(
            mine["MacAddress"],
            known.split()[known.split().index("lladdr") + 1],
            its["IPAddress"],
            its["Gateway"],
            9,
        )
        with host.server(9, kind="udp") as seen:
            attacker.send_frame(forged)
            assert attacker.ask(mine["Gateway"], 9, "udp") == mine["IPAddress"]
        assert set(seen) == {mine["IPAddress"]}, "in another's name"
    finally:
        victim.close()
        attacker.close()
        engine.remove_containers()
        for name in ("one", "two"):
            engine.docker("network", "rm", name)
