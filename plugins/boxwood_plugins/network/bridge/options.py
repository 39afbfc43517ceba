"""What a bridge network can be told: the options of Docker's driver, read and checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from boxwood.drivers.network import NetworkSpec
from boxwood.errors import InvalidArgument, PermissionDenied
from boxwood_ext.rtnl import NAME_MAX

_BRIDGE = "com.docker.network.bridge."
_NETWORK = "com.docker.network."
NAME = _BRIDGE + "name"
ICC = _BRIDGE + "enable_icc"
MASQUERADE = _BRIDGE + "enable_ip_masquerade"
HOST_BINDING = _BRIDGE + "host_binding_ipv4"
MODE4 = _BRIDGE + "gateway_mode_ipv4"
MODE6 = _BRIDGE + "gateway_mode_ipv6"
INHIBIT4 = _BRIDGE + "inhibit_ipv4"
TRUSTED = _BRIDGE + "trusted_host_interfaces"
DEFAULT = _BRIDGE + "default_bridge"
MTU = _NETWORK + "driver.mtu"
PREFIX = _NETWORK + "container_iface_prefix"
HOST4 = _NETWORK + "host_ipv4"
HOST6 = _NETWORK + "host_ipv6"
STRICT = "boxwood.network.bridge.strict_source"
KNOWN = frozenset(
    {NAME, ICC, MASQUERADE, HOST_BINDING, MODE4, MODE6, INHIBIT4, TRUSTED, DEFAULT, MTU, PREFIX}
    | {HOST4, HOST6, STRICT, _NETWORK + "enable_ipv4", _NETWORK + "enable_ipv6"}
)

NAT, UNPROTECTED, ROUTED, ISOLATED = "nat", "nat-unprotected", "routed", "isolated"
MODES = (NAT, UNPROTECTED, ROUTED, ISOLATED)

DEFAULT_MTU = 1500
MTU_MIN4, MTU_MIN6, MTU_MAX = 68, 1280, 65535
"""RFC 791, RFC 8200, and what the kernel's veth takes."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True)
class Options:
    """The options of a network; ``bridge`` is the name of its link, ``mode4`` and ``mode6`` are
    gateway modes, ``snat4`` and ``snat6`` what masqueraded packets get as their source."""

    bridge: str
    given_name: bool = False
    icc: bool = True
    masquerade: bool = True
    mode4: str = NAT
    mode6: str = NAT
    inhibit4: bool = False
    trusted: tuple[str, ...] = ()
    mtu: int = DEFAULT_MTU
    snat4: str = ""
    snat6: str = ""
    strict: bool = True


@dataclass(frozen=True)
class DriverOptions:
    """What the engine's configuration tells the driver as a whole."""

    respect_host_firewall: bool = False
    ip_forward: bool = True


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Raise InvalidArgument if there is an option that is not known."""
    for key in sorted(given):
        if key not in known:
            raise InvalidArgument(f"invalid option: {key}: the driver bridge has no such option")


def truth(key: str, value: str) -> bool:
    """Read a boolean as Go's strconv.ParseBool does, with Docker's words if it is none."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    cause = f'strconv.ParseBool: parsing "{value}": invalid syntax'
    raise InvalidArgument(f"failed to parse {key} value: {value} ({cause})")


def read(network: NetworkSpec, default_bridge: str) -> Options:
    """Return the options of a network.

    Raises:
        InvalidArgument: one is unknown, or its value is wrong.
        PermissionDenied: there are several pools of one family.
    """
    given = network.options
    refuse_unknown(given, KNOWN)
    versions = [ipaddress.ip_network(pool.subnet, strict=False).version for pool in network.pools]
    if len(set(versions)) < len(versions):
        raise PermissionDenied("bridge driver doesn't support multiple subnets")
    name = given.get(NAME, "")
    bridge = link_name(name or (default_bridge if network.default else f"br-{network.id[:12]}"))
    return Options(
        bridge=bridge,
        given_name=bool(name),
        icc=truth(ICC, given.get(ICC) or "true"),
        masquerade=truth(MASQUERADE, given.get(MASQUERADE) or "true"),
        mode4=_mode(network, given.get(MODE4, "")),
        mode6=_mode(network, given.get(MODE6, "")),
        inhibit4=truth(INHIBIT4, given.get(INHIBIT4) or "false"),
        trusted=_interfaces(given.get(TRUSTED, "")),
        mtu=_mtu(given.get(MTU, ""), network.ipv6),
        snat4=_address(HOST4, given.get(HOST4, ""), 4),
        snat6=_address(HOST6, given.get(HOST6, ""), 6),
        strict=truth(STRICT, given.get(STRICT) or "true"),
    )


def read_driver(options: Mapping[str, str]) -> DriverOptions:
    """Return the options of the driver.

    Raises:
        InvalidArgument: one is unknown, or its value is wrong.
    """
    refuse_unknown(options, {"respect-host-firewall", "ip-forward"})
    return DriverOptions(
        respect_host_firewall=truth(
            "respect-host-firewall", options.get("respect-host-firewall", "false")
        ),
        ip_forward=truth("ip-forward", options.get("ip-forward", "true")),
    )


def link_name(name: str) -> str:
    """Return a link's name if it can be one.

    Raises:
        InvalidArgument: it cannot.
    """
    if len(name.encode()) > NAME_MAX:
        raise InvalidArgument(
            f"invalid interface name: {name}: it has more than {NAME_MAX} bytes, "
            "which is what Linux takes"
        )
    bad = set('/:"{},;#$*\\') | {chr(code) for code in range(33)}
    if not name or name in (".", "..") or bad & set(name) or not name.isascii():
        raise InvalidArgument(f"invalid interface name: {name!r}")
    return name


def _mode(network: NetworkSpec, value: str) -> str:
    if not value:
        return NAT
    if value not in MODES:
        raise InvalidArgument(f"unknown gateway mode {value}")
    if value == ISOLATED and not network.internal:
        raise InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
    return value


def _interfaces(value: str) -> tuple[str, ...]:
    return tuple(link_name(name) for name in value.split(":") if name)


def _mtu(value: str, ipv6: bool) -> int:
    if not value:
        return DEFAULT_MTU
    try:
        mtu = int(value)
    except ValueError as error:
        cause = f'strconv.Atoi: parsing "{value}": invalid syntax'
        raise InvalidArgument(f"failed to parse {MTU} value: {value} ({cause})") from error
    least = MTU_MIN6 if ipv6 else MTU_MIN4
    if mtu == 0:
        return DEFAULT_MTU
    if not least <= mtu <= MTU_MAX:
        raise InvalidArgument(f"invalid MTU number: {mtu}: it must be {least} to {MTU_MAX}")
    return mtu


def _address(key: str, value: str, version: int) -> str:
    if not value:
        return ""
    try:
        address = ipaddress.ip_address(value)
    except ValueError as error:
        raise InvalidArgument(f"failed to parse {key} value: {value} (nil)") from error
    if address.version != version:
        raise InvalidArgument(f"failed to parse {key} value: {value} (not IPv{version})")
    return str(address)
