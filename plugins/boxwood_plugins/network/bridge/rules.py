"""The packet filter of the bridge networks: its two tables, and the elements that fill them.

The rules never change: networks, endpoints and ports are elements of sets and maps, so that a
packet's way is as long with a thousand of them as with one. Priorities (lower is earlier):

==================  ==========================================================
``inet``            -300 (raw): what a container sends to 127/8 is dropped, which
                    ``route_localnet`` would let in
``inet``            -100 (dstnat): published ports, from outside and from the host itself
``inet``            -1 (just before filter): to containers by published ports alone, never directly;
                    between networks; in and out of internal ones
``inet``            100 (srcnat): masquerade
``bridge``          -300: source addresses, ARP, neighbour and router advertisements; what all
                    frames of IPv4 are, in order, is found at the first look
==================  ==========================================================

A drop here is final; an accept is not: another table may still drop.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from boxwood.drivers.network import NetworkSpec, PortRequest
from boxwood_plugins.network.bridge.options import (
    NAT,
    ROUTED,
    UNPROTECTED,
    Options,
)

INET, BRIDGE = "inet", "bridge"

_ADDR4, _ADDR6, _IF = "ipv4_addr", "ipv6_addr", "ifname"
_PROTO, _PORT, _MAC = "inet_proto", "inet_service", "ether_addr"
TARGET = "iifname . @th,64,128"
"""The key of `targets6`: an expression, because nft 1.0.6 has no name for an advertised address."""
FAMILY = "meta nfproto"
EXPRESSIONS = (TARGET, FAMILY)
MARK = "0x10000000"
"""The bit of a packet's mark that says: ours, and let pass. Set only for the families of `marked`,
where another firewall has a rule that asks for it."""

SETS: dict[tuple[str, str], tuple[str, ...]] = {
    (INET, "bridges"): (_IF,),
    (INET, "internal"): (_IF,),
    (INET, "same"): (_IF, _IF),
    (INET, "talking"): (_IF, _IF),
    (INET, "home4"): (_ADDR4, _IF),
    (INET, "home6"): (_ADDR6, _IF),
    (INET, "trusted"): (_IF, _IF),
    (INET, "routed4"): (_IF,),
    (INET, "routed6"): (_IF,),
    (INET, "open4"): (_IF,),
    (INET, "open6"): (_IF,),
    (INET, "masquerade4"): (_IF,),
    (INET, "masquerade6"): (_IF,),
    (INET, "marked"): (FAMILY,),
    (INET, "published4"): (_ADDR4, _PROTO, _PORT),
    (INET, "published6"): (_ADDR6, _PROTO, _PORT),
    (BRIDGE, "known4"): (_IF, _MAC, _ADDR4),
    (BRIDGE, "guarded"): (_IF,),
    (BRIDGE, "macs"): (_IF, _MAC),
    (BRIDGE, "own4"): (_IF, _ADDR4),
    (BRIDGE, "own6"): (_IF, _ADDR6),
    (BRIDGE, "targets6"): (_IF, TARGET),
}
"""Each set, with the types of its key's parts. An element is (input, output) where both are
interfaces. (The hairpin's masquerade asks for the source's subnet and not for the input, because
br_netfilter, which has the kernel lead it back within the bridge, tells no input there.)"""

MAPS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    (INET, "ports4"): ((_ADDR4, _PROTO, _PORT), (_ADDR4, _PORT)),
    (INET, "ports6"): ((_ADDR6, _PROTO, _PORT), (_ADDR6, _PORT)),
    (INET, "everywhere4"): ((_PROTO, _PORT), (_ADDR4, _PORT)),
    (INET, "everywhere6"): ((_PROTO, _PORT), (_ADDR6, _PORT)),
    (INET, "source4"): ((_IF,), (_ADDR4,)),
    (INET, "source6"): ((_IF,), (_ADDR6,)),
}
"""Each map, with the types of its key's and its value's parts."""

_INET_CHAINS = """
  chain raw {
    type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname @bridges drop
  }
  chain publish {
    fib daddr type != local return
    dnat ip to ip daddr . meta l4proto . th dport map @ports4
    dnat ip to meta l4proto . th dport map @everywhere4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
    dnat ip6 to meta l4proto . th dport map @everywhere6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname @internal return
    ip daddr 127.0.0.0/8 return
    jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    jump publish
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ct status dnat ip saddr . oifname @home4 masquerade
    ct status dnat ip6 saddr . oifname @home6 masquerade
    iifname . oifname @same return
    snat ip to iifname map @source4
    snat ip6 to iifname map @source6
    meta nfproto ipv4 iifname @masquerade4 masquerade
    meta nfproto ipv6 iifname @masquerade6 masquerade
  }
  chain forward {
    type filter hook forward priority -1; policy accept;
    iifname . oifname @talking goto pass
    iifname @internal drop
    oifname @internal drop
    oifname @bridges jump inbound
    iifname @bridges meta oifkind != "bridge" goto pass
  }
  chain inbound {
    ct state established,related goto pass
    ct status dnat jump published
    meta nfproto ipv4 oifname @routed4 jump published
    meta nfproto ipv6 oifname @routed6 jump published
    iifname . oifname @trusted jump published
    meta nfproto ipv4 oifname @open4 goto pass
    meta nfproto ipv6 oifname @open6 goto pass
    drop
  }
  chain published {
    ip daddr . meta l4proto . th dport @published4 goto pass
    ip6 daddr . meta l4proto . th dport @published6 goto pass
  }
  chain pass {
    meta nfproto @marked meta mark set meta mark | 0x10000000
    accept
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname @internal jump host
  }
  chain host {
    fib daddr . iif type { local, broadcast, multicast } accept
    drop
  }
"""

_BRIDGE_CHAINS = """
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname . ether saddr . ip saddr @known4 accept
    iifname @guarded jump check
  }
  chain check {
    iifname . ether saddr != @macs drop
    ether type ip iifname . ip saddr != @own4 drop
    ether type arp jump arp_check
    ether type ip6 jump ip6_check
  }
  chain arp_check {
    iifname . arp saddr ether != @macs drop
    arp saddr ip 0.0.0.0 accept
    iifname . arp saddr ip != @own4 drop
  }
  chain ip6_check {
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa iifname . @th,64,128 != @targets6 drop
    ip6 saddr { ::, fe80::/10 } accept
    iifname . ip6 saddr != @own6 drop
  }
"""


class Element(NamedTuple):
    """An element of a set, or (with a value) of a map."""

    family: str
    set: str
    key: tuple[str, ...]
    value: tuple[str, ...] = ()


def skeleton(table: str) -> str:
    """Return the commands that make both tables anew, empty, in place of what is there."""
    return "".join(
        f"add table {family} {table}\ndelete table {family} {table}\n"
        f"table {family} {table} {{\n{_sets(family)}{chains}}}\n"
        for family, chains in ((INET, _INET_CHAINS), (BRIDGE, _BRIDGE_CHAINS))
    )


def _sets(family: str) -> str:
    text = ""
    for (where, name), parts in SETS.items():
        if where == family:
            typed = f"type {' . '.join(parts)}"
            kind = next((f"typeof {part}" for part in parts if part in EXPRESSIONS), typed)
            if name in ("home4", "home6"):
                kind += "; flags interval"
            text += f"  set {name} {{ {kind}; }}\n"
    for (where, name), (parts, values) in MAPS.items():
        if where == family:
            kind = f"type {' . '.join(parts)} : {' . '.join(values)}"
            text += f"  map {name} {{ {kind}; }}\n"
    return text


def command(verb: str, table: str, element: Element) -> str:
    """Return the command that adds or deletes an element."""
    place = (element.family, element.set)
    keys, values = (SETS[place], ()) if place in SETS else MAPS[place]
    text = _joined(element.key, keys)
    if element.value and verb == "add":
        text += f" : {_joined(element.value, values)}"
    return f"{verb} element {element.family} {table} {element.set} {{ {text} }}\n"


def _joined(parts: Iterable[str], types: Iterable[str]) -> str:
    return " . ".join(
        f'"{part}"' if kind == _IF else part for part, kind in zip(parts, types, strict=True)
    )


def of_network(network: NetworkSpec, options: Options) -> frozenset[Element]:
    """Return the elements of a network."""
    bridge = options.bridge
    found = [
        Element(INET, "bridges", (bridge,)),
        Element(INET, "same", (bridge, bridge)),
    ]
    found += [Element(INET, "trusted", (name, bridge)) for name in options.trusted]
    if network.internal:
        found.append(Element(INET, "internal", (bridge,)))
    if options.icc:
        found.append(Element(INET, "talking", (bridge, bridge)))
    for pool in network.pools:
        subnet = ipaddress.ip_network(pool.subnet, strict=False)
        found.append(Element(INET, f"home{subnet.version}", (str(subnet), bridge)))
    families = (("4", options.mode4, options.snat4), ("6", options.mode6, options.snat6))
    for family, mode, source in families:
        if mode == ROUTED:
            found.append(Element(INET, f"routed{family}", (bridge,)))
        if mode == UNPROTECTED:
            found.append(Element(INET, f"open{family}", (bridge,)))
        if mode in (NAT, UNPROTECTED) and options.masquerade and not network.internal:
            if source:
                found.append(Element(INET, f"source{family}", (bridge,), (source,)))
            else:
                found.append(Element(INET, f"masquerade{family}", (bridge,)))
    return frozenset(found)


def of_marks(families: Iterable[str]) -> frozenset[Element]:
    """Return the elements that have what passes marked, for nft's families ``ip``, ``ip6``."""
    names = {"ip": "ipv4", "ip6": "ipv6"}
    return frozenset(Element(INET, "marked", (names[family],)) for family in families)


def of_link(link: str, mac: str, addresses: Iterable[str]) -> frozenset[Element]:
    """Return the elements that say who an endpoint may claim to be."""
    found = [Element(BRIDGE, "guarded", (link,)), Element(BRIDGE, "macs", (link, mac))]
    for text in addresses:
        address = ipaddress.ip_interface(text).ip
        if address.version == 4:
            found.append(Element(BRIDGE, "own4", (link, str(address))))
            found.append(Element(BRIDGE, "known4", (link, mac, str(address))))
        else:
            found.append(Element(BRIDGE, "own6", (link, str(address))))
            found.append(Element(BRIDGE, "targets6", (link, hex(int(address)))))
    return frozenset(found)


def led(ports: Iterable[PortRequest], addresses: Iterable[str]) -> tuple[PortRequest, ...]:
    """Return those ports that the kernel can lead to these addresses.

    The rest is ``::1`` (no route leads from it to anywhere else) and what has no address of its
    family to go to.
    """
    versions = {ipaddress.ip_interface(text).version for text in addresses}
    return tuple(
        port
        for port in ports
        if (host := ipaddress.ip_address(port.host_ip)).version in versions
        and not (host.version == 6 and host.is_loopback)
    )


def of_ports(
    ports: Iterable[PortRequest], addresses: Iterable[str], options: Options
) -> frozenset[Element]:
    """Return the elements that publish ports (those that :func:`led` names)."""
    targets: dict[int, str] = {}
    for text in addresses:
        address = ipaddress.ip_interface(text).ip
        targets.setdefault(address.version, str(address))
    found = []
    for port in ports:
        host = ipaddress.ip_address(port.host_ip)
        family = str(host.version)
        target, number = targets[host.version], str(port.port)
        found.append(Element(INET, f"published{family}", (target, port.protocol, number)))
        if (options.mode4 if family == "4" else options.mode6) == ROUTED:
            continue
        key: tuple[str, ...] = (port.protocol, str(port.host_port))
        name = f"everywhere{family}"
        if not host.is_unspecified:
            key, name = (str(host), *key), f"ports{family}"
        found.append(Element(INET, name, key, (target, number)))
    return frozenset(found)
