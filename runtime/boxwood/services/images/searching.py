"""``docker search``: what a registry finds, and which of it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.errors import InvalidArgument
from boxwood.model.reference import DEFAULT_DOMAIN, LEGACY_DOMAIN
from boxwood.services.images.filters import truth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxwood.drivers.registry import Credentials, RegistryTransport, SearchResult

MOST = 100
"""Results that may be asked for at once, as in Docker."""
USUAL = 25


async def search(
    transport: RegistryTransport[Any],
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: Credentials | None,
) -> list[SearchResult]:
    """Return what the registry that ``term`` begins with, or Docker Hub, finds.

    Args:
        limit: 1 to 100; 0: 25.
        filters: ``is-official``, ``is-automated`` (nothing is), ``stars`` (so many at least).

    Raises:
        InvalidArgument: in Docker's words.
        Unsupported: the registry has no search.
        Errors as ``RegistryTransport.resolve``.
    """
    if not 0 <= limit <= MOST:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {MOST}]")
    official, automated, stars = _wanted(filters)
    domain, words = _split(term)
    if automated:
        return []
    found = await transport.search(domain, words, limit or USUAL, credentials)
    return [
        one
        for one in found
        if one.star_count >= stars and (official is None or one.is_official == official)
    ]


def _split(term: str) -> tuple[str, str]:
    """Return the registry and the words of a term."""
    if "://" in term:
        raise InvalidArgument(
            f"invalid repository name: repository name ({term}) should not have a scheme"
        )
    first, slash, rest = term.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost"):
        return (DEFAULT_DOMAIN if first in (DEFAULT_DOMAIN, LEGACY_DOMAIN) else first), rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


def _wanted(filters: Mapping[str, Sequence[str]]) -> tuple[bool | None, bool, int]:
    """Return official or not, automated, and the least number of stars."""
    for key in filters:
        if key not in ("is-official", "is-automated", "stars"):
            raise InvalidArgument(f"invalid filter '{key}'")
    stars = 0
    for text in filters.get("stars", ()):
        if not text.isdecimal():
            raise InvalidArgument(f"invalid filter 'stars={text}'")
        stars = max(stars, int(text))
    official = _truth("is-official", filters.get("is-official", ()))
    return official, bool(_truth("is-automated", filters.get("is-automated", ()))), stars


def _truth(key: str, texts: Sequence[str]) -> bool | None:
    return truth(key, texts) if texts else None
