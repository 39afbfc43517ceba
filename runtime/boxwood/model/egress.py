"""What a container may reach outside: the values of ``--egress``."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

from boxwood.errors import InvalidArgument

KEY: Final = "boxwood.egress"
"""The annotation of a container, or the label of a network: values of ``--egress``, between them
blanks."""
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_NAME: Final = 253
MAX_RULES: Final = 256
"""Of one container."""


class Rule(msgspec.Struct, frozen=True):
    """One thing that may be reached.

    Attributes:
        host: a name, ``*.`` and a domain (every name below it), or a subnet in CIDR form.
        port: 0: all, of all protocols.
        protocol: with a port; empty: tcp.
    """

    host: str
    port: int = 0
    protocol: str = ""

    @property
    def is_network(self) -> bool:
        """Is it a subnet, not a name?"""
        return "/" in self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return host + port + (f"/{self.protocol}" if self.protocol == "udp" else "")


class Policy(msgspec.Struct, frozen=True):
    """A container's egress policy: the rules and no more; with ``learn`` all, written down."""

    rules: tuple[Rule, ...] = ()
    learn: bool = False

    def text(self) -> str:
        """Return a value that says the same."""
        if self.learn:
            return "learn"
        return "allow=" + ",".join(map(str, self.rules)) if self.rules else "deny"


def parse(values: list[str] | tuple[str, ...]) -> Policy | None:
    """Read the values of ``--egress``; None: there is none, everything may be reached.

    ``deny``; ``allow=HOST[:PORT[/udp]][,...]``, as often as wanted; ``learn``, alone.

    Raises:
        InvalidArgument: a value is none of these.
    """
    if not values:
        return None
    rules: list[Rule] = []
    if "learn" in values:
        if set(values) != {"learn"}:
            raise InvalidArgument("invalid egress: learn stands alone")
        return Policy(learn=True)
    for value in values:
        kind, _, hosts = value.partition("=")
        if kind == "allow" and hosts:
            rules += (_rule(host.strip()) for host in hosts.split(","))
        elif value != "deny":
            raise InvalidArgument(
                f"invalid egress: {value}: must be deny, learn, or allow=HOST[:PORT][,...]"
            )
    if len(rules) > MAX_RULES:
        raise InvalidArgument(f"invalid egress: more than {MAX_RULES} rules")
    return Policy(tuple(dict.fromkeys(rules)))


def _rule(text: str) -> Rule:
    rest, _, protocol = text.rpartition("/") if text.endswith(("/tcp", "/udp")) else (text, "", "")
    host, port = _split(rest, text)
    if (protocol and not port) or not 0 <= port <= 65535:
        raise InvalidArgument(f"invalid egress: {text}: a protocol needs a port from 1 to 65535")
    protocol = protocol.replace("tcp", "")
    try:
        network = ipaddress.ip_network(host, strict=True)
    except ValueError as error:
        if re.fullmatch(r"[0-9./]+|.*[:/].*", host):
            raise InvalidArgument(f"invalid egress: {text}: {error}") from error
        return Rule(_name(host, text), port, protocol)
    return Rule(str(network), port, protocol)


def _split(rest: str, text: str) -> tuple[str, int]:
    bracket = re.fullmatch(r"\[([^]]+)\](?::(\d{1,5}))?", rest)
    plain = re.fullmatch(r"([^:]+):(\d{1,5})", rest)
    found = bracket or plain
    if found is None:
        return rest, 0
    host, port = found.group(1), found.group(2)
    if port is not None and not int(port):
        raise InvalidArgument(f"invalid egress: {text}: port 0")
    return host, int(port or 0)


def _name(host: str, text: str) -> str:
    name = host.lower().removesuffix(".")
    plain = name.removeprefix("*.")
    labels = plain.split(".")
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidArgument(f"invalid egress: {text}: not a name, *.DOMAIN, or subnet")
    return name
