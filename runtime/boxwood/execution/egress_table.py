"""The packet filter's table of an engine's egress policies, and what it noted.

Life: :meth:`Table.make` puts the whole of it there, :meth:`Table.settle` and :meth:`Table.change`
keep its elements, :meth:`Table.remove` takes it away. Addresses are plain text, without a prefix
length.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Final

import msgspec

from boxwood.errors import Unavailable
from boxwood.model.egress import Policy, Rule
from boxwood_ext.nft import Nft, NftError

MARK: Final = 1 << 30
"""Of packets from limited containers that have met the table: :mod:`egress_routes` asks for it."""
_REMOVALS: Final = frozenset(10 << 8 | kind for kind in (2, 5, 8, 11))
"""Of a table, a chain, a rule, a set."""
PROTOCOLS: Final = {"": 6, "tcp": 6, "udp": 17}
"""Numbers of the protocols that a rule may name."""
_NAMED: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_NOTED: Final = 4096
"""Refused destinations that are noted at a time, of all containers and one family."""
_NOTED_SECONDS: Final = 86400


class Limited(msgspec.Struct, frozen=True):
    """A container under a policy, and its addresses."""

    policy: Policy
    addresses: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """A destination that a container was refused.

    ``count``: packets; ``ago``: seconds since the last; ``port``: 0 where a protocol has none.
    """

    address: str
    protocol: str
    port: int
    count: int
    ago: int


class Table:
    """The table ``inet NAME``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def apply(self, commands: str) -> None:
        """Carry out commands, all of them or none; raises Unavailable."""
        try:
            with closing(Nft()) as nft:
                nft.run(commands)
        except NftError as error:
            raise Unavailable(f"egress: packet filter: {error}") from error

    def is_there(self) -> bool:
        """Whether all its rules are."""
        there = self._query(f"list table inet {self.name}")
        rules = [line for line in _table(self.name).splitlines() if not line.startswith(_OTHER)]
        return sum("rule" in one for one in there) == len(rules)

    def make(self, limited: Iterable[Limited]) -> None:
        """Put it there, in place of what is."""
        elements = "".join(self._elements(one, "add") for one in limited)
        # The first of the two lines makes the other one possible.
        anew = f"table inet {self.name}\ndelete table inet {self.name}\n"
        self.apply(anew + _table(self.name) + elements)

    def settle(self, limited: Iterable[Limited]) -> None:
        """Have the wanted elements in the table that is there, and no others of the daemon's; what
        names have opened stays."""
        clear = "".join(
            f"flush set inet {self.name} {kind}{family}\n"
            for kind in ("limited", "nets")
            for family in (4, 6)
        )
        self.apply(clear + "".join(self._elements(one, "add") for one in limited))

    def change(self, old: Limited | None, new: Limited | None) -> None:
        """Put a container's elements in the place of others, in one step. What names opened runs
        out by itself, and is of no use without the container's address among the limited."""
        self.apply(
            (self._elements(old, "delete") if old else "")
            + (self._elements(new, "add") if new else "")
        )

    def remove(self) -> None:
        """Remove it; where there is no nftables, there is none."""
        tables = self._query("list tables inet")
        if any(one.get("table", {}).get("name") == self.name for one in tables):
            self.apply(f"table inet {self.name}\ndelete table inet {self.name}\n")

    def refused(self, addresses: Iterable[str]) -> list[Refused]:
        """Return what was refused to a container of these addresses, the latest last."""
        wanted = set(addresses)
        found = (one for source, one, _ in self._noted() if source in wanted)
        return sorted(found, key=lambda one: -one.ago)

    def forget(self, addresses: Iterable[str]) -> None:
        """Forget what was refused to these: they get another owner.

        Raises:
            Unavailable: some of it ran out just now; nothing is forgotten.
        """
        wanted = set(addresses)
        lines = [command for source, _, command in self._noted() if source in wanted]
        if lines:
            self.apply("".join(lines))

    def _noted(self) -> Iterator[tuple[str, Refused, str]]:
        """Yield what is noted: whose it is, what it is, and the command that removes it."""
        for name in ("refused4", "refused6", "strange4", "strange6"):
            for one in self._query(f"list set inet {self.name} {name}"):
                for element in one.get("set", {}).get("elem", ()):
                    source, found = _read(element["elem"])
                    numbers = " . ".join(str(word) for word in element["elem"]["val"]["concat"])
                    command = f"delete element inet {self.name} {name} {{ {numbers} }}\n"
                    yield source, found, command

    def _query(self, command: str) -> list[dict[str, Any]]:
        try:
            with closing(Nft()) as nft:
                return nft.query(command)
        except NftError:
            return []

    def _elements(self, limited: Limited, verb: str) -> str:
        if limited.policy.learn:
            return ""
        lines = []
        for text in limited.addresses:
            family = ipaddress.ip_address(text).version
            head = f"{verb} element inet {self.name}"
            lines.append(f"{head} limited{family} {{ {text} }}")
            for rule in limited.policy.rules:
                if rule.is_network and ipaddress.ip_network(rule.host).version == family:
                    key = f"{text} . {rule.host} . {_ports(rule)}"
                    lines.append(f"{head} nets{family} {{ {key} }}")
        return "\n".join([*lines, ""])


def _read(element: dict[str, Any]) -> tuple[str, Refused]:
    source, address, protocol, *port = element["val"]["concat"]
    count = element.get("counter", {}).get("packets", 0)
    ago = element.get("timeout", _NOTED_SECONDS) - element.get("expires", _NOTED_SECONDS)
    name = protocol if isinstance(protocol, str) else _NAMED.get(protocol, str(protocol))
    return source, Refused(address, name, port[0] if port else 0, count, max(ago, 0))


def removes(data: bytes, table: str) -> bool:
    """Do these notifications tell that something of the table was removed?"""
    at = 0
    while at + 24 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 24:
            break
        size = struct.unpack_from("=H", data, at + 20)[0]
        name = data[at + 24 : at + 20 + size].rstrip(b"\0")
        if kind in _REMOVALS and name == table.encode():
            return True
        at += length + 3 & ~3
    return False


def _ports(rule: Rule) -> str:
    if not rule.port:
        return "0-255 . 0-65535"
    return f"{PROTOCOLS[rule.protocol]} . {rule.port}"


_OTHER: Final = ("table ", "set ", "chain ", "}")
"""How lines of the table begin that are no rules."""
_MANY: Final = {4: "224.0.0.0/4", 6: "ff00::/8"}
"""Multicast: what every host sends unasked is not noted."""


def _table(name: str) -> str:
    """The whole table. Names never open the host itself (``input``), only subnets do: a name's
    owner says where it leads."""
    noted = f"size {_NOTED}; flags dynamic,timeout; timeout {_NOTED_SECONDS}s;"
    parts = [f"table inet {name} {{"]
    for family, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        pair = f"{kind} . {kind}"
        ports = f"{pair} . inet_proto . inet_service"
        parts += [
            f"set limited{family} {{ type {kind}; }}",
            f"set hosts{family} {{ type {pair}; flags timeout; }}",
            f"set ports{family} {{ type {ports}; flags timeout; }}",
            f"set nets{family} {{ type {ports}; flags interval; }}",
            f"set refused{family} {{ type {ports}; {noted} }}",
            f"set strange{family} {{ type {pair} . inet_proto; {noted} }}",
        ]
    for family, ip in ((4, "ip"), (6, "ip6")):
        key = f"{ip} saddr . {ip} daddr"
        parts += [
            f"chain named{family} {{",
            f"{key} @hosts{family} accept",
            f"{key} . meta l4proto . th dport @ports{family} accept",
            "}",
        ]
    parts += ["chain refuse {", "meta l4proto tcp reject with tcp reset", "reject", "}"]
    for hook, named in (("forward", True), ("input", False)):
        for family, ip in ((4, "ip"), (6, "ip6")):
            pair = f"{ip} saddr . {ip} daddr"
            key = f"{pair} . meta l4proto . th dport"
            parts += [
                f"chain {hook}{family} {{",
                "ct state established,related accept",
                *(["icmpv6 type { 133, 134, 135, 136 } accept"] if family == 6 else []),
                f"{key} @nets{family} accept",
                *([f"jump named{family}"] if named else []),
                f"meta l4proto {{ tcp, udp, sctp }} update @refused{family} {{ {key} counter }}",
                f"meta l4proto != {{ tcp, udp, sctp }} {ip} daddr != {_MANY[family]} "
                f"update @strange{family} {{ {pair} . meta l4proto counter }}",
                "goto refuse",
                "}",
            ]
        parts += [
            f"chain {hook} {{ type filter hook {hook} priority -5; policy accept;",
            f"ip saddr @limited4 goto {hook}4",
            f"ip6 saddr @limited6 goto {hook}6",
            "}",
        ]
    parts += [
        # After whoever sets a mark of his own, before the route is chosen.
        "chain marked { type filter hook prerouting priority 200; policy accept;",
        *(
            f"{ip} saddr @limited{family} meta mark set meta mark | {MARK:#x}"
            for family, ip in ((4, "ip"), (6, "ip6"))
        ),
        "}",
    ]
    return "\n".join([*parts, "}", ""])
