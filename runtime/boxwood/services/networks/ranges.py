"""Subnets: reading them, and giving out ones that nobody has.

Ranges are pairs of numbers (first, last), one list for each family: with a thousand networks a
free one is found by jumping over what is taken, not by trying.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from boxwood.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = tuple[int, int]


class PoolSource(NamedTuple):
    """A block that subnets of ``size`` bits are cut from."""

    base: Subnet
    size: int


_DOCKERS = (
    ("172.17.0.0/16", 16), ("172.18.0.0/16", 16), ("172.19.0.0/16", 16), ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16), ("172.28.0.0/14", 16), ("192.168.0.0/16", 20),
)  # fmt: skip
"""Docker's pools: 31 networks, and no more."""
_OURS = (("10.200.0.0/13", 24),)
"""When those are gone: 2048 more, of 253 containers each."""
ULA_SIZE = 64
"""Bits of a subnet of IPv6 (RFC 4291 section 2.5.1)."""


def default_sources(engine_id: str) -> tuple[PoolSource, ...]:
    """Return the blocks used when the configuration names none.

    The IPv6 block is a /48 of unique local addresses that is derived from ``engine_id``
    (RFC 4193 section 3.2: random, and the same at each start).
    """
    found = [PoolSource(ipaddress.ip_network(base), size) for base, size in (*_DOCKERS, *_OURS)]
    found.append(ula_source(engine_id))
    return tuple(found)


def ula_source(engine_id: str) -> PoolSource:
    """Return the engine's own /48 of unique local addresses."""
    digest = hashlib.sha256(f"{engine_id}/ula".encode()).digest()
    prefix = bytes((0xFD, *digest[:5])) + bytes(10)
    return PoolSource(ipaddress.IPv6Network((prefix, 48)), ULA_SIZE)


def parse_sources(pools: Iterable[tuple[str, int]], engine_id: str) -> tuple[PoolSource, ...]:
    """Return the blocks that ``default-address-pools`` names; a family it leaves out is ours.

    Raises:
        InvalidArgument: no CIDR form, or a size that does not fit.
    """
    found = []
    for base, size in pools:
        try:
            block = ipaddress.ip_network(base)
        except ValueError as error:
            raise InvalidArgument(
                f"configuration: default-address-pools: {base}: {error}"
            ) from error
        if not block.prefixlen <= size <= block.max_prefixlen - 1:
            raise InvalidArgument(
                f"configuration: default-address-pools: {base}: no subnets of size {size} in it"
            )
        found.append(PoolSource(block, size))
    if not found:
        return default_sources(engine_id)
    if all(source.base.version == 4 for source in found):
        found.append(ula_source(engine_id))
    return tuple(found)


def span(subnet: Subnet) -> Range:
    """Return the first and the last address as numbers."""
    return int(subnet.network_address), int(subnet.broadcast_address)


def overlaps(subnet: Subnet, taken: Iterable[Range]) -> bool:
    """Whether a subnet shares an address with one of ``taken`` (of its family)."""
    first, last = span(subnet)
    return any(low <= last and first <= high for low, high in taken)


def first_free(
    sources: Iterable[PoolSource], version: int, taken: Iterable[Range]
) -> Subnet | None:
    """Return the first subnet of a family that overlaps nothing; None if there is none."""
    ordered = sorted(taken)
    for base, size in sources:
        if base.version != version:
            continue
        low, high = span(base)
        step = 1 << (base.max_prefixlen - size)
        at = low
        for start, end in ordered:
            if end < at:
                continue
            if start > at + step - 1:
                break
            at = low + -(-(end + 1 - low) // step) * step  # the next boundary after it
        if at + step - 1 <= high:
            return ipaddress.ip_network((at, size))
    return None


def host_routes(version: int, root: Path = Path("/proc/net")) -> list[Range]:
    """Return what the host has routes to, default routes and those of the kernel left out.

    Read as text: netlink asks the same and takes longer to load. A file that cannot be read is
    no reason to make no network.
    """
    name, read = ("route", _routes4) if version == 4 else ("ipv6_route", _routes6)
    try:
        text = (root / name).read_text(encoding="ascii")
    except OSError as error:
        log.info("routes of the host: %s: %s", root / name, error.strerror)
        return []
    return list(read(text))


def _routes4(text: str) -> Iterator[Range]:
    """``/proc/net/route``: words are hexadecimal, of the machine's byte order (proc(5))."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 8:
            continue
        address, mask = (int.from_bytes(bytes.fromhex(words[at]), sys.byteorder) for at in (1, 7))
        if mask:
            yield address & mask, address & mask | (~mask & 0xFFFFFFFF)


_RTF_LOCAL = 0x80000000
_RTF_UP = 0x1
_MULTICAST = 0xFF << 120
_LINK_LOCAL = (0xFE80 << 112, (0xFEC0 << 112) - 1)


def _routes6(text: str) -> Iterator[Range]:
    """``/proc/net/ipv6_route``: destination, length, source, length, next hop, ..., flags, link."""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10:
            continue
        first, length = int(words[0], 16), int(words[1], 16)
        flags = int(words[8], 16)
        if not length or flags & _RTF_LOCAL or not flags & _RTF_UP:
            continue
        if first >= _MULTICAST or _LINK_LOCAL[0] <= first <= _LINK_LOCAL[1]:
            continue
        yield first, first | ((1 << (128 - length)) - 1)
