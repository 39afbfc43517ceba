"""The options of a bridge network: what is taken, what is refused, in which words."""

from __future__ import annotations

import pytest

from boxwood.drivers.network import NetworkSpec, Pool
from boxwood.errors import BoxwoodError, InvalidArgument, PermissionDenied
from boxwood_plugins.network.bridge import options as opts


def spec(given: dict[str, str] | None = None, **fields: object) -> NetworkSpec:
    return NetworkSpec(id="ab" * 32, name="n", options=given or {}, **fields)  # type: ignore[arg-type]


def test_the_defaults() -> None:
    found = opts.read(spec(), "boxwood0")
    assert found == opts.Options(bridge="br-abababababab")
    assert (found.icc, found.masquerade, found.mode4, found.mtu) == (True, True, "nat", 1500)
    assert opts.read(spec(default=True), "boxwood0").bridge == "boxwood0"


def test_each_option() -> None:
    found = opts.read(
        spec(
            {
                opts.NAME: "lab0",
                opts.ICC: "false",
                opts.MASQUERADE: "0",
                opts.MODE4: "routed",
                opts.MODE6: "nat-unprotected",
                opts.INHIBIT4: "True",
                opts.TRUSTED: "wg0:wg1",
                opts.MTU: "9000",
                opts.HOST4: "192.0.2.7",
                opts.HOST6: "2001:db8:0::7",
                opts.STRICT: "false",
            }
        ),
        "boxwood0",
    )
    assert found == opts.Options(
        bridge="lab0",
        given_name=True,
        icc=False,
        masquerade=False,
        mode4="routed",
        mode6="nat-unprotected",
        inhibit4=True,
        trusted=("wg0", "wg1"),
        mtu=9000,
        snat4="192.0.2.7",
        snat6="2001:db8::7",
        strict=False,
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"com.docker.network.bridge.enable_iccc": "true"}, "invalid option: .*enable_iccc"),
        ({"mtu": "1500"}, "invalid option: mtu"),
        ({opts.ICC: "maybe"}, r'failed to parse .*: maybe \(strconv.ParseBool: parsing "maybe"'),
        ({opts.MODE4: "bridged"}, "unknown gateway mode bridged"),
        ({opts.MODE4: "isolated"}, "'isolated' can only be used for an internal network"),
        ({opts.MTU: "many"}, r"failed to parse .*mtu value: many \(strconv.Atoi"),
        ({opts.MTU: "-1"}, "invalid MTU number: -1"),
        ({opts.MTU: "67"}, "invalid MTU number: 67"),
        ({opts.MTU: "65536"}, "invalid MTU number: 65536"),
        ({opts.NAME: "a-name-of-16-byte"}, "invalid interface name: a-name-of-16-byte"),
        ({opts.NAME: "a/b"}, "invalid interface name"),
        ({opts.NAME: 'a"b'}, "invalid interface name"),
        ({opts.TRUSTED: "eth0:bad name"}, "invalid interface name"),
        ({opts.HOST4: "2001:db8::1"}, "failed to parse"),
        ({opts.HOST4: "here"}, "failed to parse"),
    ],
)
def test_what_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        opts.read(spec(given), "boxwood0")


def test_a_small_mtu_is_too_small_for_ipv6_only() -> None:
    given = {opts.MTU: "1000"}
    assert opts.read(spec(given), "").mtu == 1000
    with pytest.raises(InvalidArgument, match="1280"):
        opts.read(spec(given, ipv6=True), "")


def test_several_subnets_of_a_family() -> None:
    pools = (Pool(subnet="10.1.0.0/24"), Pool(subnet="10.2.0.0/24"))
    with pytest.raises(PermissionDenied, match="doesn't support multiple subnets"):
        opts.read(spec(pools=pools), "")
    assert opts.read(spec(pools=(pools[0], Pool(subnet="fd00::/64"))), "")


@pytest.mark.parametrize("given", [{"x": "y"}, {"ip-forward": "perhaps"}])
def test_driver_options(given: dict[str, str]) -> None:
    with pytest.raises(BoxwoodError):
        opts.read_driver(given)
    found = opts.read_driver({"ip-forward": "false", "respect-host-firewall": "true"})
    assert found == opts.DriverOptions(respect_host_firewall=True, ip_forward=False)
