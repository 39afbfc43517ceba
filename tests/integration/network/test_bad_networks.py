"""What no network can be, with the real bridge: the answer, and nothing is left on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.needs import need_root
from tests.support.networks import links_of, tag_of

OPTION = "com.docker.network."


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the network `taken` of 10.195.0.0/24, and a container at .7 in it."""
    need_root()
    server = Engine()
    try:
        server.start()
        server.add_busybox()
        server.docker("network", "create", "--subnet", "10.195.0.0/24", "taken")
        at = ("--network", "taken", "--ip", "10.195.0.7")
        server.docker("run", "-d", "--name", "box", *at, "busybox", "sleep", "1000")
        yield server
    finally:
        server.close()


def on_host(engine: Engine) -> tuple[set[str], str]:
    """The links and rules of an engine, and its records."""
    command = ["nft", "list", "table", "inet", tag_of(engine.exec_root)]
    rules = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = sorted(network["Name"] for network in engine.api("GET", "/networks").json())
    return set(links_of(engine.exec_root)), rules + repr(names)


def subnets(*configs: dict[str, str]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(configs)}}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (subnets({"Subnet": "10.195.0.128/25"}), 403, "Pool overlaps with other one on this"),
        (subnets({"Subnet": "10.0.0.0/8"}), 403, "Pool overlaps with other one on this"),
        (subnets({"Subnet": "10.195.1.0"}), 400, "invalid CIDR block notation"),
        (subnets({"Subnet": "10.195.1.5/24"}), 400, "it should be 10.195.1.0/24"),
        (
            subnets({"Subnet": "10.195.1.0/24", "Gateway": "10.195.2.1"}),
            400,
            "invalid gateway 10.195.2.1: parent subnet 10.195.1.0/24 doesn't contain this",
        ),
        (
            subnets({"Subnet": "10.195.1.0/24"}, {"Subnet": "10.195.2.0/24"}),
            403,
            "bridge driver doesn't support multiple subnets",
        ),
        ({"Name": "taken"}, 409, "network with name taken already exists"),
        ({"Name": "none"}, 403, "operation is not permitted on predefined none network"),
        ({"Driver": "overlay9"}, 404, "could not find plugin overlay9 in v1 plugin registry"),
        ({"Options": {f"{OPTION}bridge.colour": "red"}}, 400, "colour"),
        ({"Options": {f"{OPTION}bridge.name": "a-name-of-16-char"}}, 400, ""),
        ({"Options": {f"{OPTION}bridge.name": "lo"}}, 409, "conflicts with the link lo"),
        ({"Options": {f"{OPTION}driver.mtu": "9999999"}}, 400, ""),
        ({"Options": {f"{OPTION}driver.mtu": "many"}}, 400, ""),
        ({"EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
    ],
)
def test_networks(engine: Engine, body: dict[str, Any], status: int, words: str) -> None:
    before = on_host(engine)
    answer = engine.api("POST", "/networks/create", {"Name": "bad", **body})
    assert (answer.status, words in answer.json()["message"]) == (status, True), answer.body
    assert on_host(engine) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--network taken --ip 10.195.0.7", "Address already in use"),
        ("--network taken --ip 10.195.0.1", "Address already in use"),
        ("--network taken --ip 10.195.9.9", "no configured subnet"),
        ("--network taken --ip6 fd00::9", "no configured subnet"),
        ("--network nowhere", "network nowhere not found"),
    ],
)
def test_endpoints(engine: Engine, flags: str, words: str) -> None:
    before = on_host(engine)
    refused = engine.docker("run", "--rm", *flags.split(), "busybox", "true", check=False)
    assert refused.returncode == 125
    assert words in refused.stderr
    assert on_host(engine) == before


def test_a_network_in_use(engine: Engine) -> None:
    before = on_host(engine)
    answer = engine.api("DELETE", "/networks/taken")
    assert answer.status == 403
    assert 'has active endpoints (name:"box" id:"' in answer.json()["message"]
    assert engine.docker("network", "prune", "-f").stdout == ""
    assert on_host(engine) == before
