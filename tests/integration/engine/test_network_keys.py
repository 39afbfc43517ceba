"""The keys of the configuration that say what networks are like, on the links they make."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import InvalidArgument
from tests.support.engine import Engine

LINKS = Path("/sys/class/net")


def shown(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.api("GET", f"/networks/{name}?host=1").json()
    return found


def test_keys_of_the_default_network(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    link = f"bw{os.urandom(4).hex()}"
    settings = {
        "bridge": link,
        "bip": "10.197.0.5/20",
        "bip6": "fd00:5eed:77::5/64",
        "fixed-cidr": "10.197.8.0/24",
        "fixed-cidr-v6": "fd00:5eed:77::/80",
        "default-gateway": "10.197.8.9",
        "default-gateway-v6": "fd00:5eed:77::9",
        "ipv6": True,
        "mtu": 1400,
        "icc": False,
        "ip-masq": False,
        "ip": "127.0.0.1",
        "ip-forward": True,
    }
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(settings))
    engine = make_engine("--config-file", str(file), busybox=False)
    found = shown(engine, "bridge")
    assert found["IPAM"]["Config"] == [
        {
            "Subnet": "10.197.0.0/20",
            "Gateway": "10.197.0.5",
            "IPRange": "10.197.8.0/24",
            "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.197.8.9"},
        },
        {
            "Subnet": "fd00:5eed:77::/64",
            "Gateway": "fd00:5eed:77::5",
            "IPRange": "fd00:5eed:77::/80",
            "AuxiliaryAddresses": {"DefaultGatewayIPv6": "fd00:5eed:77::9"},
        },
    ]
    assert found["EnableIPv6"]
    assert found["Options"] == {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.bridge.name": link,
        "com.docker.network.driver.mtu": "1400",
    }
    assert (LINKS / link / "mtu").read_text() == "1400\n"
    assert {"10.197.0.5/20", "fd00:5eed:77::5/64"} <= set(found["Host"]["addresses"])
    assert not [line for line in found["Host"]["elements"] if line.startswith("masquerade")]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"


def test_keys_of_new_networks(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(
        *("--default-address-pool", "base=10.197.32.0/20,size=26"),
        *("--default-address-pool", "base=fd00:5eed:78::/60,size=64"),
        *("--default-network-opt", "bridge=com.docker.network.driver.mtu=1300"),
        busybox=False,
    )
    engine.docker("network", "create", "--ipv6", "mine")
    found = shown(engine, "mine")
    subnets = [config["Subnet"] for config in found["IPAM"]["Config"]]
    assert subnets[0].endswith("/26")
    assert subnets[0].startswith(("10.197.32.", "10.197.33."))
    assert subnets[1] == "fd00:5eed:78::/64"
    assert found["Options"] == {"com.docker.network.driver.mtu": "1300"}
    assert (LINKS / found["Host"]["bridge"] / "mtu").read_text() == "1300\n"
    # The default network is cut from them too.
    assert shown(engine, "bridge")["IPAM"]["Config"][0]["Subnet"] == "10.197.32.0/26"


def test_a_start_takes_what_has_changed(make_engine: Callable[..., Engine]) -> None:
    """The network keeps its id; its link gets the new address and size."""
    engine = make_engine(busybox=False)
    before = shown(engine, "bridge")
    engine.stop()
    engine.flags = ("--bip", "10.197.64.1/24", "--mtu", "1350")
    engine.start()
    after = shown(engine, "bridge")
    assert (after["Id"], after["Host"]["bridge"]) == (before["Id"], before["Host"]["bridge"])
    assert after["Host"]["addresses"] == ["10.197.64.1/24"]
    assert after["Host"]["mtu"] == 1350


def test_drivers_are_told_what_concerns_them_all(make_engine: Callable[..., Engine]) -> None:
    """``respect-host-firewall``: no rule of ours in another program's chains."""
    engine = make_engine("--respect-host-firewall", busybox=False)
    assert shown(engine, "bridge")["Host"]["host_firewall"] == []


def test_another_way_out(make_engine: Callable[..., Engine]) -> None:
    """Of the default network by its keys, of others by an auxiliary address of that name; gone from
    the record with the key, and refused outside of the subnet."""
    bip = ("--bip", "10.197.96.1/24")
    engine = make_engine(*bip, "--default-gateway", "10.197.96.254")
    run = ("run", "--rm", "busybox", "ip", "route", "show", "default")
    assert engine.docker(*run).stdout.split()[:3] == ["default", "via", "10.197.96.254"]
    aux = ("--aux-address", "DefaultGatewayIPv4=10.197.97.9")
    engine.docker("network", "create", "--subnet", "10.197.97.0/24", *aux, "mine")
    named = ("run", "--rm", "--network", "mine", *run[2:])
    assert engine.docker(*named).stdout.split()[:3] == ["default", "via", "10.197.97.9"]
    engine.stop()
    engine.flags = bip
    engine.start()
    assert engine.docker(*run).stdout.split()[:3] == ["default", "via", "10.197.96.1"]
    assert "AuxiliaryAddresses" not in shown(engine, "bridge")["IPAM"]["Config"][0]
    engine.docker("network", "rm", "mine")


def test_the_host_by_a_name(make_engine: Callable[..., Engine]) -> None:
    """``host-gateway-ip`` instead of the default network's gateway."""
    run = ("run", "--rm", "--add-host", "gw:host-gateway", "busybox", "grep", "gw", "/etc/hosts")
    engine = make_engine()
    gateway = shown(engine, "bridge")["IPAM"]["Config"][0]["Gateway"]
    assert engine.docker(*run).stdout.split() == [gateway, "gw"]
    engine.stop()
    engine.flags = ("--host-gateway-ip", "192.0.2.7")
    engine.start()
    assert engine.docker(*run).stdout.split() == ["192.0.2.7", "gw"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bip", "10.0.0.0"), ("bip6", "10.0.0.1/8"), ("bip6", "fd00::1"),
        ("fixed-cidr", "10.0.0.1/8"),
        ("default-gateway", "10.0.0.1/8"), ("default-gateway-v6", "10.0.0.1"),
        ("fixed-cidr-v6", "x"), ("ip", "localhost"), ("host-gateway-ip", "x"), ("mtu", 10),
        ("default-address-pools", [{"base": "10.0.0.0/8"}]), ("icc", "maybe"),
        ("default-network-opts", {"bridge": "mtu"}), ("ip-masq", 2), ("ip-forward", "x"),
        ("ipv6", "x"), ("bridge", 1), ("respect-host-firewall", "x"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(tmp_path: Path, key: str, value: object) -> None:
    from boxwood.configuration import load

    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({key: value}))
    with pytest.raises(InvalidArgument, match=key):
        load({"config_file": str(file)})
