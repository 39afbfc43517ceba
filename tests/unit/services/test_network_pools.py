"""Subnets: what is asked for is checked, what is left open is chosen, nothing overlaps."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood.errors import InvalidArgument, PermissionDenied
from boxwood.model.network import IPAMConfig
from boxwood.services.networks import ranges
from boxwood.services.networks.pools import Pools, check
from boxwood.services.networks.ranges import PoolSource

ENGINE = "e" * 64


def pools(*routes: str, sources: tuple[PoolSource, ...] = ranges.default_sources(ENGINE)) -> Pools:
    spans = [ranges.span(ipaddress.ip_network(text)) for text in routes]
    return Pools(sources, lambda version: spans if version == 4 else [])


def plan(made: Pools, key: str, *configs: IPAMConfig, ipv6: bool = False) -> list[str]:
    found = made.plan(key, configs, ipv4=True, ipv6=ipv6)
    return [config.subnet for config in found]


def test_dockers_pools_first_and_then_a_thousand_more() -> None:
    made = pools()
    given = [plan(made, f"{n}")[0] for n in range(1000)]
    assert given[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert given[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"][-3:]
    assert given[31] == "10.200.0.0/24"
    nets = sorted(map(ipaddress.ip_network, given))
    assert all(not a.overlaps(b) for a, b in itertools.pairwise(nets))


def test_routes_of_the_host_are_left_alone() -> None:
    made = pools("172.17.0.0/16", "172.18.128.0/24", "172.20.0.0/14")
    assert plan(made, "a") == ["172.19.0.0/16"]
    assert plan(made, "b") == ["172.24.0.0/16"]
    assert made.clashes([IPAMConfig(subnet="172.18.0.0/16")]) == ["172.18.0.0/16"]
    assert made.clashes([IPAMConfig(subnet="172.16.0.0/16")]) == []


def test_a_freed_subnet_comes_back_and_an_overlapping_one_is_refused() -> None:
    made = pools()
    assert plan(made, "a") == ["172.17.0.0/16"]
    with pytest.raises(PermissionDenied) as refused:
        plan(made, "b", IPAMConfig(subnet="172.17.5.0/24"))
    assert "Pool overlaps with other one on this address space" in str(refused.value)
    made.free("a")
    assert plan(made, "b", IPAMConfig(subnet="172.17.5.0/24")) == ["172.17.5.0/24"]
    assert plan(made, "c") == ["172.18.0.0/16"]
    with pytest.raises(PermissionDenied):
        plan(made, "d", IPAMConfig(subnet="10.0.0.0/8"), IPAMConfig(subnet="10.1.0.0/16"))
    assert plan(made, "d", IPAMConfig(subnet="10.0.0.0/8")) == ["10.0.0.0/8"]


def test_when_all_are_gone() -> None:
    sources = ranges.parse_sources([("10.0.0.0/30", 31)], ENGINE)
    made = pools(sources=sources)
    assert plan(made, "a") + plan(made, "b") == ["10.0.0.0/31", "10.0.0.2/31"]
    with pytest.raises(InvalidArgument, match="all predefined address pools have been fully"):
        plan(made, "c")


def test_unique_local_addresses_are_the_engines_own() -> None:
    made = pools()
    first, second = (plan(made, key, ipv6=True)[1] for key in "ab")
    assert first != second
    base = ranges.ula_source(ENGINE).base
    assert base.prefixlen == 48
    for text in (first, second):
        subnet = ipaddress.ip_network(text)
        assert subnet.prefixlen == 64
        assert subnet.subnet_of(base)
        assert subnet.subnet_of(ipaddress.ip_network("fd00::/8"))
    assert ranges.ula_source("f" * 64).base != base


def test_gateways_are_the_first_that_is_free() -> None:
    made = pools()
    cases = [
        (IPAMConfig(subnet="10.1.0.0/24"), "10.1.0.1"),
        (IPAMConfig(subnet="10.2.0.0/24", auxiliary={"a": "10.2.0.1"}), "10.2.0.2"),
        (IPAMConfig(subnet="10.3.0.0/16", ip_range="10.3.9.0/24"), "10.3.9.0"),
        (IPAMConfig(subnet="10.4.0.0/24", gateway="10.4.0.9"), "10.4.0.9"),
        (IPAMConfig(subnet="fd00:9::/64"), "fd00:9::1"),
    ]
    for at, (config, gateway) in enumerate(cases):
        (found,) = made.plan(
            f"{at}", [config], ipv4=":" not in config.subnet, ipv6=":" in config.subnet
        )
        assert found.gateway == gateway


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"subnet": "10.0.0.0"}, "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        ({"subnet": "10.0.0.0/33"}, "invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
        ({"subnet": ""}, "invalid subnet : invalid CIDR block notation"),
        ({"subnet": "10.0.0.1/24"}, "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (
            {"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"},
            "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        (
            {"subnet": "10.0.0.0/24", "gateway": "fd00::1"},
            "invalid gateway fd00::1: parent subnet is an IPv4 block",
        ),
        (
            {"subnet": "10.0.0.0/24", "gateway": "x"},
            "invalid gateway x: invalid address",
        ),
        (
            {"subnet": "10.0.0.0/24", "auxiliary": {"a": "10.0.1.1"}},
            "invalid auxiliary address a: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/23"},
            "invalid ip-range 10.0.0.0/23: CIDR block is bigger than its parent subnet 10.0.0.0/24",
        ),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.1/25"},
            "invalid ip-range 10.0.0.1/25: it should be 10.0.0.0/25",
        ),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "10.0.1.0/25"},
            "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
        ),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "fd00::/96"},
            "invalid ip-range fd00::/96: parent subnet is an IPv4 block",
        ),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "much"},
            "invalid ip-range much: invalid CIDR block notation",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_dockers_words(config: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check([IPAMConfig(**config)])
    assert str(refused.value) == f"invalid network config:\n{words}"


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidArgument) as refused:
        check([IPAMConfig(subnet="x"), IPAMConfig(subnet="10.0.0.1/24", gateway="y")])
    assert len(str(refused.value).splitlines()) == 4
    check([IPAMConfig(subnet="fd00::/64", gateway="z")], ipv6=False)  # it is not used


@given(
    base=st.ip_addresses(v=4).map(int),
    prefix=st.integers(8, 28),
    more=st.integers(1, 8),
    taken=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=30),
)
def test_the_first_free_subnet(
    base: int, prefix: int, more: int, taken: list[tuple[int, int]]
) -> None:
    """It is the first that a plain search finds."""
    block = ipaddress.ip_network((base, prefix), strict=False)
    size = min(prefix + more, 32)
    blocked = [ipaddress.ip_network(entry, strict=False) for entry in taken]
    # Some inside, that the search meets them.
    blocked += [
        ipaddress.ip_network((int(block[at % block.num_addresses]), length), strict=False)
        for at, length in taken
        if length >= size
    ]
    found = ranges.first_free([PoolSource(block, size)], 4, map(ranges.span, blocked))
    plain = next(
        (one for one in block.subnets(new_prefix=size) if not any(map(one.overlaps, blocked))),
        None,
    )
    assert found == plain


def test_routes_of_this_machine(tmp_path: Path) -> None:
    """The kernel's tables are read as they are; those of the loopback and the default are not."""
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    docker = ranges.span(ipaddress.ip_network("172.17.0.0/16"))
    assert ranges.host_routes(4, tmp_path) == [docker]
    flags = {"up": "00000001", "local": "80200001"}
    (tmp_path / "ipv6_route").write_text(
        "".join(
            f"{first} {length} {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 {flag} eth0\n"
            for first, length, flag in (
                ("0" * 32, "00", flags["up"]),
                ("fe80" + "0" * 28, "40", flags["up"]),
                ("ff00" + "0" * 28, "08", flags["up"]),
                ("fd00000000000000" + "0" * 15 + "1", "80", flags["local"]),
                ("fd00000000000001" + "0" * 16, "40", flags["up"]),
            )
        )
    )
    (found,) = ranges.host_routes(6, tmp_path)
    assert found == ranges.span(ipaddress.ip_network("fd00:0:0:1::/64"))
    assert ranges.host_routes(4, tmp_path / "nowhere") == []
    for version in (4, 6):
        for first, last in ranges.host_routes(version):
            assert first <= last


@pytest.mark.parametrize(
    "pool", [("x", 24), ("10.0.0.0/16", 8), ("10.0.0.1/16", 24), ("10.0.0.0/16", 32)]
)
def test_pools_that_make_no_sense(pool: tuple[str, int]) -> None:
    with pytest.raises(InvalidArgument, match="default-address-pools"):
        ranges.parse_sources([pool], ENGINE)
