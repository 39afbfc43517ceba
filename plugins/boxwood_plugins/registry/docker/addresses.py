"""Whom a registry may lead us to, and the addresses that only this machine or its provider has.

A registry names other hosts: by redirects, by token servers. This daemon is root on its machine,
and its network has what the registry's does not: services of the loopback, the provider's metadata
with its credentials. Names are looked at where they are resolved, so what was checked is what is
connected to: a name whose address changes meanwhile (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import time
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from boxwood.errors import PermissionDenied

_CARRIER = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Where providers of machines keep metadata beside 169.254.169.254 (from knowledge)."""
NAMES_PATIENCE = 2.0
"""Seconds that a name may take where a proxy resolves it anyhow: behind one there is often no
name server for the names of the outside."""
NAMES_KEPT = 60.0
"""Seconds that an answer, or that there is none, is remembered: as connections do theirs."""
NAMES_LIMIT = 1_000
_URL = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]{1,8192}", re.ASCII)
"""Characters of a URL (RFC 3986): no space, no line's end, no backslash."""


class Unsafe(PermissionDenied):
    """A registry asked for what it must not get."""


def internal(text: str) -> bool:
    """Whether an address is one that only this machine, or its provider's metadata, has.

    Raises:
        ValueError: it is a name.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _CARRIER:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return internal(str(inner))
    elif address in ipaddress.ip_network("0.0.0.0/8"):
        return True
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address in _METADATA
    )


def is_loopback(host: str) -> bool:
    """Whether a host is written as this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Resolver(AbstractResolver):
    """Names to addresses. A strict one has only those of other machines."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.outside: set[str] = set()
        """Names that were other machines' when they were first resolved: they stay that."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises OSError, and Unsafe when none may be used."""
        found = await ThreadedResolver().resolve(host, port, family)
        outside = [one for one in found if not internal(one["host"])]
        if self._strict or host in self.outside:
            if not outside:
                raise Unsafe(
                    f"registry: {host} is {found[0]['host']}, an address of this machine or its "
                    "provider: refused"
                )
            return outside
        if len(outside) == len(found):
            self.outside.add(host)
        return found

    async def close(self) -> None:
        """Nothing is held."""


class Proxied:
    """Names that a proxy resolves, looked at here as far as this machine knows them.

    The proxy may see other addresses, or others when it looks: what it connects to is its to
    guard. But a name that leads inside for everybody is refused before it is asked. One that is
    not known here, or not in time, is the proxy's.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, str]] = {}

    async def check(self, host: str) -> None:
        """Raise Unsafe for a name of which any address is this machine's or its provider's."""
        since, inside = self._known.get(host, (0.0, ""))
        if not since or time.monotonic() - since > NAMES_KEPT:
            inside = await self._look(host)
            self._known[host] = (time.monotonic(), inside)
            if len(self._known) > NAMES_LIMIT:
                del self._known[next(iter(self._known))]
        if inside:
            raise Unsafe(
                f"registry: {host} is {inside}, an address of this machine or its provider: refused"
            )

    async def _look(self, host: str) -> str:
        """Return an address that is none of others; empty: there is none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(NAMES_PATIENCE):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            return ""
        return next((text for one in found if internal(text := str(one[4][0]))), "")


def led(home: str, here: str, location: str, resolver: Resolver) -> tuple[str, bool]:
    """Return where a registry leads to, and whether its name is to be resolved strictly.

    Args:
        home: the URL of the registry itself, which a person named.
        here: the URL of the answer.
        location: what the answer says, relative to it.
        resolver: the one that found the registry.

    Raises:
        Unsafe: not a web address, a way out of TLS, an address of this machine or its provider.
    """
    shown = "".join(char if char.isprintable() else "?" for char in location[:200])
    if _URL.fullmatch(location) is None:
        raise Unsafe(f"registry: {here}: leads to {shown!r}: no web address")
    try:
        target = urljoin(here, location)
        there, host = urlsplit(target), (URL(target, encoded=True).host or "").lower()
        port = there.port
    except ValueError as error:
        raise Unsafe(f"registry: {here}: leads to {shown!r}: {error}") from error
    # Two readers of one URL: what one checks and the other connects to must be the same.
    named = (there.hostname or "").rstrip(".")
    if there.scheme not in ("http", "https") or not named or named != host.rstrip("."):
        raise Unsafe(f"registry: {here}: leads to {shown!r}: no web address")
    if there.username is not None or port == 0:
        raise Unsafe(f"registry: {here}: leads to {shown!r}: no web address")
    if urlsplit(here).scheme == "https" and there.scheme == "http":
        raise Unsafe(f"registry: {here}: leads to {shown}, which is not secured")
    return target, _is_strict(home, here, named, resolver)


def own_path(here: str, location: str) -> str:
    """Return path and query of where a registry points to on itself, whatever host it names.

    Registries behind a proxy do not know how they are reached; nobody else is asked.

    Raises:
        Unsafe: it is no URL.
    """
    path, query = "", ""
    if _URL.fullmatch(location) is not None:
        with suppress(ValueError):
            target = urlsplit(urljoin(here, location))
            path, query = target.path, target.query
    if not path.startswith("/"):
        shown = "".join(char if char.isprintable() else "?" for char in location[:200])
        raise Unsafe(f"registry: {here}: points to {shown!r}: no web address")
    return f"{path}?{query}" if query else path


def _is_strict(home: str, here: str, named: str, resolver: Resolver) -> bool:
    own = urlsplit(home).hostname or ""
    if named == own and own not in resolver.outside:
        return False  # a registry that is on this machine, or behind a proxy, by its own name
    if is_loopback(own) and is_loopback(named):
        return False
    try:
        inside = internal(named)
    except ValueError:
        inside = named == "localhost" or named.endswith(".localhost")
    if inside and named != own:
        raise Unsafe(
            f"registry: {here}: leads to {named}, an address of this machine or its provider: "
            "refused"
        )
    return True
