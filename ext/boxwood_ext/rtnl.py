"""The messages of rtnetlink(7): links, addresses, routes; :class:`boxwood_ext.net.Netlink` sends.

Each function returns one message for :meth:`Netlink.batch` (or for ``query``, where it says so)
and touches nothing. Names are those inside the namespace of the socket that sends it; addresses
are in CIDR form (``172.17.0.2/16``, ``fd00::2/64``), MAC addresses in colon form.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_BRIDGE: Final = 7
AF_INET6: Final = 10

NAME_MAX: Final = 15
"""Bytes of a link's name (IFNAMSIZ less the NUL)."""
IFF_UP: Final = 1

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_U32 = struct.Struct("=I")

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE = 32, 33
_REPLACE, _EXCL, _CREATE, _DUMP = 0x100, 0x200, 0x400, 0x300
_NESTED = 0x8000

# if_link.h, if_addr.h, rtnetlink.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 20, 26, 28
_IFLA_OPERSTATE, _OPER_UP = 16, b"\x06"
_GEN_MODE, _GEN_MODE_NONE = 8, 1  # IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_TABLE_MAIN, _PROTO_BOOT, _PROTO_STATIC, _SCOPE_LINK, _UNICAST = 254, 3, 4, 253, 1


# fib_rules.h; a rule's header is a route's, with an action in the place of the type.
_FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_FWMASK = 2, 3, 6, 10, 16
_PROHIBIT = 8


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel tells of it.

    ``peer`` is IFLA_LINK: the index of what it hangs on. ``running``: it is up and so is its other
    end, and the kernel has done what follows from that (a bridge's port forwards).
    """

    index: int
    name: str
    kind: str
    up: bool
    running: bool
    master: int
    mtu: int
    mac: str
    alias: str
    peer: int


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a link."""

    index: int
    address: str
    """In CIDR form."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of any table. ``destination`` is in CIDR form, ``gateway`` may be empty."""

    destination: str
    gateway: str
    index: int
    table: int


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode an attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """Put a header before the parts; Netlink fills in the rest of it."""
    body = b"".join(parts)
    return _HEADER.pack(16 + len(body), kind, flags, 0, 0) + body


def text(kind: int, value: str) -> bytes:
    """Encode a text, with its NUL."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """Encode a number of 32 bits."""
    return attribute(kind, _U32.pack(value))


def byte(kind: int, value: int) -> bytes:
    """Encode a number of 8 bits."""
    return attribute(kind, bytes([value]))


def _mac(value: str) -> bytes:
    raw = bytes.fromhex(value.replace(":", "").replace("-", ""))
    if len(raw) != 6:
        raise ValueError(f"not a MAC address: {value}")
    return raw


def _link(
    name: str,
    *,
    up: bool | None = None,
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    netns: int = -1,
    alias: str = "",
    parent: int = 0,
    index: int = 0,
    no_link_local: bool = False,
) -> bytes:
    flags = IFF_UP if up else 0
    parts = [_LINK.pack(AF_UNSPEC, 0, index, flags, 0 if up is None else IFF_UP)]
    if name:
        parts.append(text(_IFLA_IFNAME, name))
    if mac:
        parts.append(attribute(_IFLA_ADDRESS, _mac(mac)))
    if mtu:
        parts.append(number(_IFLA_MTU, mtu))
    if master is not None:
        parts.append(number(_IFLA_MASTER, master))
    if parent:
        parts.append(number(_IFLA_LINK, parent))
    if netns >= 0:
        parts.append(number(_IFLA_NET_NS_FD, netns))
    if alias:
        parts.append(text(_IFLA_IFALIAS, alias))
    if no_link_local:
        parts.append(nested(_IFLA_AF_SPEC, nested(AF_INET6, byte(_GEN_MODE, _GEN_MODE_NONE))))
    return b"".join(parts)


def new_link(
    name: str,
    kind: str,
    data: bytes = b"",
    *,
    up: bool = False,
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    netns: int = -1,
    parent: int = 0,
) -> bytes:
    """Make a link of a kind (``bridge``); ``data`` are its attributes (IFLA_INFO_DATA).

    ``netns`` is a descriptor: the link is made there; ``parent`` the index of the lower link, in
    the socket's namespace. EEXIST when the name is taken.
    """
    info = [text(_INFO_KIND, kind)]
    if data:
        info.append(nested(_INFO_DATA, data))
    body = _link(name, up=up, mac=mac, mtu=mtu, master=master, netns=netns, parent=parent)
    return message(_NEWLINK, _CREATE | _EXCL, body, nested(_IFLA_LINKINFO, *info))


def veth(
    name: str,
    peer: str,
    *,
    netns: int,
    master: int | None = None,
    up: bool = False,
    mac: str = "",
    mtu: int = 0,
) -> bytes:
    """Make a veth and its peer (``mac`` is the peer's), which is down and in ``netns``.

    With ``master``, an index, the veth is on that bridge; ``up``: it is up.
    """
    inside = _link(peer, mac=mac, mtu=mtu, netns=netns)
    body = _link(name, up=up, mtu=mtu, master=master)
    info = (text(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_VETH_PEER | _NESTED, inside)))
    return message(_NEWLINK, _CREATE | _EXCL, body, nested(_IFLA_LINKINFO, *info))


def set_link(
    name: str = "",
    *,
    index: int = 0,
    up: bool | None = None,
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    netns: int = -1,
    alias: str = "",
    no_link_local: bool = False,
) -> bytes:
    """Change a link found by its name or, when that is 0, its index.

    With an index, ``name`` is the new name. ``master`` 0 takes it from its bridge. An ``alias``
    can only be set here: the kernel overlooks it when a link is made. ``no_link_local``: it gets
    no address of IPv6 by itself (a bridge's port needs none).
    """
    body = _link(
        name,
        up=up,
        mac=mac,
        mtu=mtu,
        master=master,
        netns=netns,
        alias=alias,
        index=index,
        no_link_local=no_link_local,
    )
    return message(_NEWLINK, 0, body)


def set_port(name: str, kind: str, *attributes: bytes) -> bytes:
    """Change a link as a port of its master of this kind (IFLA_INFO_SLAVE_DATA)."""
    info = (text(_INFO_SLAVE_KIND, kind), nested(_INFO_SLAVE_DATA, *attributes))
    return message(_NEWLINK, 0, _link(name), nested(_IFLA_LINKINFO, *info))


def set_kind(name: str, kind: str, *attributes: bytes) -> bytes:
    """Change what is a link's own by its kind (IFLA_INFO_DATA)."""
    info = (text(_INFO_KIND, kind), nested(_INFO_DATA, *attributes))
    return message(_NEWLINK, 0, _link(name), nested(_IFLA_LINKINFO, *info))


def delete_link(name: str = "", *, index: int = 0) -> bytes:
    """Delete a link. Of a veth that costs some 20 ms: close its namespace instead."""
    return message(_DELLINK, 0, _link(name, index=index))


def _address_body(index: int, address: str, nodad: bool) -> bytes:
    interface = ipaddress.ip_interface(address)
    family = AF_INET if interface.version == 4 else AF_INET6
    flags = _IFA_F_NODAD if nodad and family == AF_INET6 else 0
    parts = [
        _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, index),
        attribute(_IFA_LOCAL, interface.packed),
        attribute(_IFA_ADDRESS, interface.packed),
    ]
    if family == AF_INET and interface.network.prefixlen < 31:
        parts.append(attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed))
    if flags:
        parts.append(number(_IFA_FLAGS, flags))
    return b"".join(parts)


def new_address(index: int, address: str, *, nodad: bool = True) -> bytes:
    """Give a link (by index) an address; one that is there stays as it is.

    ``nodad``: an IPv6 address is usable at once, without looking for duplicates (1 to 2 s).
    """
    return message(_NEWADDR, _CREATE | _REPLACE, _address_body(index, address, nodad))


def delete_address(index: int, address: str) -> bytes:
    """Take an address from a link."""
    return message(_DELADDR, 0, _address_body(index, address, False))


def _route_body(destination: str, gateway: str, index: int, source: str, table: int) -> bytes:
    if destination in ("", "default"):
        network = None
        family = AF_INET6 if ":" in gateway else AF_INET
    else:
        network = ipaddress.ip_network(destination, strict=False)
        family = AF_INET if network.version == 4 else AF_INET6
    prefix = network.prefixlen if network else 0
    scope = 0 if gateway or family == AF_INET6 else _SCOPE_LINK
    head = _ROUTE.pack(family, prefix, 0, 0, min(table, 255), _PROTO_BOOT, scope, _UNICAST, 0)
    parts = [head, number(_RTA_TABLE, table)]
    if network:
        parts.append(attribute(_RTA_DST, network.network_address.packed))
    if gateway:
        parts.append(attribute(_RTA_GATEWAY, ipaddress.ip_address(gateway).packed))
    if index:
        parts.append(number(_RTA_OIF, index))
    if source:
        parts.append(attribute(_RTA_PREFSRC, ipaddress.ip_address(source).packed))
    return b"".join(parts)


def new_route(
    destination: str, gateway: str, index: int = 0, *, source: str = "", table: int = _TABLE_MAIN
) -> bytes:
    """Add a route (``default`` or CIDR) through a gateway, or (gateway empty) over a link.

    What leads to the same destination is replaced.
    """
    body = _route_body(destination, gateway, index, source, table)
    return message(_NEWROUTE, _CREATE | _REPLACE, body)


def delete_route(
    destination: str, gateway: str, index: int = 0, *, table: int = _TABLE_MAIN
) -> bytes:
    """Delete a route."""
    return message(_DELROUTE, 0, _route_body(destination, gateway, index, "", table))


def _rule_body(source: str, interface: str, priority: int, mark: int, mask: int) -> bytes:
    network = ipaddress.ip_network(source)
    family = AF_INET if network.version == 4 else AF_INET6
    return b"".join([
        _ROUTE.pack(family, 0, network.prefixlen, 0, 0, 0, 0, _PROHIBIT, 0),
        attribute(_FRA_SRC, network.network_address.packed),
        text(_FRA_IIFNAME, interface),
        number(_FRA_PRIORITY, priority), number(_FRA_FWMARK, mark), number(_FRA_FWMASK, mask),
    ])  # fmt: skip


def new_rule(source: str, interface: str, priority: int, *, mark: int, mask: int) -> bytes:
    """Prohibit what comes from a network by a link with a mark, of the bits in ``mask``."""
    return message(_NEWRULE, _CREATE | _EXCL, _rule_body(source, interface, priority, mark, mask))


def delete_rule(source: str, interface: str, priority: int, *, mark: int, mask: int) -> bytes:
    """Delete such a rule."""
    return message(_DELRULE, 0, _rule_body(source, interface, priority, mark, mask))


def get_links() -> bytes:
    """Ask (``query``) for all links: :func:`links` reads the answers."""
    return message(_GETLINK, _DUMP, _LINK.pack(AF_UNSPEC, 0, 0, 0, 0))


def get_link(index: int) -> bytes:
    """Ask (``query``) for one link: :func:`links` reads the answer.

    Since Linux 6.8 what has changed at its other end is taken into account first.
    """
    return message(_GETLINK, 0, _LINK.pack(AF_UNSPEC, 0, index, 0, 0))


def get_addresses(index: int = 0) -> bytes:
    """Ask (``query``) for all addresses, or a link's: :func:`addresses` reads the answers."""
    return message(_GETADDR, _DUMP, _ADDRESS.pack(AF_UNSPEC, 0, 0, 0, index))


def get_routes() -> bytes:
    """Ask (``query``) for all routes: :func:`routes` reads the answers."""
    return message(_GETROUTE, _DUMP, _ROUTE.pack(AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0))


def get_route(address: str) -> bytes:
    """Ask (``query``) by which route an address is reached: :func:`routes` reads the answer."""
    target = ipaddress.ip_address(address)
    family = AF_INET if target.version == 4 else AF_INET6
    head = _ROUTE.pack(family, target.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return message(_GETROUTE, 0, head, attribute(_RTA_DST, target.packed))


def attributes(data: bytes) -> dict[int, bytes]:
    """Decode attributes; of several of one type the last."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _words(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def links(answers: Iterable[tuple[int, bytes]]) -> Iterator[Link]:
    """Read the answers to :func:`get_links`."""
    for kind, body in answers:
        if kind != _NEWLINK:
            continue
        _, _, index, flags, _ = _LINK.unpack_from(body)
        found = attributes(body[_LINK.size :])
        info = attributes(found.get(_IFLA_LINKINFO, b""))
        yield Link(
            index=index,
            name=_words(found.get(_IFLA_IFNAME, b"")),
            kind=_words(info.get(_INFO_KIND, b"")),
            up=bool(flags & IFF_UP),
            running=found.get(_IFLA_OPERSTATE) == _OPER_UP,
            master=_u32(found.get(_IFLA_MASTER)),
            mtu=_u32(found.get(_IFLA_MTU)),
            mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
            alias=_words(found.get(_IFLA_IFALIAS, b"")),
            peer=_u32(found.get(_IFLA_LINK)),
        )


def addresses(answers: Iterable[tuple[int, bytes]]) -> Iterator[Address]:
    """Read the answers to :func:`get_addresses`."""
    for kind, body in answers:
        if kind != _NEWADDR:
            continue
        _, prefix, _, _, index = _ADDRESS.unpack_from(body)
        found = attributes(body[_ADDRESS.size :])
        raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
        yield Address(index, f"{ipaddress.ip_address(raw)}/{prefix}")


def routes(answers: Iterable[tuple[int, bytes]]) -> Iterator[Route]:
    """Read the answers to :func:`get_routes`; those without an interface are left out."""
    for kind, body in answers:
        if kind != _NEWROUTE:
            continue
        family, prefix, _, _, table, *_ = _ROUTE.unpack_from(body)
        if family not in (AF_INET, AF_INET6):
            continue
        found = attributes(body[_ROUTE.size :])
        none = b"\0" * (4 if family == AF_INET else 16)
        target = ipaddress.ip_address(found.get(_RTA_DST, none))
        gateway = found.get(_RTA_GATEWAY)
        yield Route(
            destination=f"{target}/{prefix}",
            gateway=str(ipaddress.ip_address(gateway)) if gateway else "",
            index=_u32(found.get(_RTA_OIF)),
            table=_u32(found.get(_RTA_TABLE)) or table,
        )


def _u32(value: bytes | None) -> int:
    return int(_U32.unpack_from(value)[0]) if value else 0
