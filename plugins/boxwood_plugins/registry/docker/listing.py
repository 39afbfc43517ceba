"""Lists that come in pages: tags, and what refers to a manifest (RFC 8288 ``Link``, bounded)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import msgspec

from boxwood.errors import DataLoss, InvalidArgument, NotFound, TooLarge
from boxwood.model.descriptor import DOCUMENT_LIMIT, OCI_INDEX, Descriptor
from boxwood.model.digest import Digest
from boxwood_plugins.registry.docker.addresses import own_path

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.answers import Answer

TAGS_LIMIT = 100_000
REFERRERS_LIMIT = 1_000
"""Entries of a list: the largest repositories have some ten thousand tags."""
PAGES_LIMIT = 1_000

_NEXT = re.compile(r'<([^<>]+)>\s*;[^<]*\brel="?next"?', re.IGNORECASE)

_Kind = TypeVar("_Kind")
Get = Callable[[str], Awaitable["Answer"]]
"""Asks for a path: below the repository, or below the host's root when it begins with a slash."""


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class _Index(msgspec.Struct):
    manifests: list[Descriptor] | None = None


async def tags(get: Get, name: str) -> list[str]:
    """Return the tags of the repository ``name``, sorted; raises DataLoss, TooLarge."""
    found: set[str] = set()
    async with aclosing(_pages(get, "tags/list?n=1000", name)) as pages:
        async for body in pages:
            found.update(_decode(body, _Tags, f"tags of {name}").tags or ())
            _bounded(len(found), TAGS_LIMIT, f"tags of {name}")
    return sorted(found)


async def referrers(get: Get, name: str, digest: Digest, artifact_type: str) -> list[Descriptor]:
    """Return the manifests that are about ``digest``, of one artifact type or (``""``) of all.

    A registry without the API keeps them in an index under a tag made of the digest
    (distribution-spec "Referrers Tag Schema").

    Raises:
        DataLoss, TooLarge
    """
    found: list[Descriptor] = []
    where = f"referrers of {name}@{digest}"
    query = f"?artifactType={artifact_type}" if artifact_type else ""
    try:
        async with aclosing(_pages(get, f"referrers/{digest}{query}", name)) as pages:
            async for body in pages:
                found += _decode(body, _Index, where).manifests or ()
                _bounded(len(found), REFERRERS_LIMIT, where)
    except (NotFound, InvalidArgument):
        found = await _tagged(get, digest, where)
    # A server may leave the filter to its client, and says so by leaving out a header.
    return [one for one in found if artifact_type in ("", one.artifact_type)]


async def _tagged(get: Get, digest: Digest, where: str) -> list[Descriptor]:
    try:
        async with await get(f"manifests/{digest.referrers_tag}") as answer:
            if answer.media_type != OCI_INDEX:
                return []  # a person's tag that looks like one
            body = await answer.read(DOCUMENT_LIMIT)
    except NotFound:
        return []
    found = _decode(body, _Index, where).manifests or []
    _bounded(len(found), REFERRERS_LIMIT, where)
    return found


async def _pages(get: Get, path: str, name: str) -> AsyncGenerator[bytes, None]:
    seen = set()
    for _ in range(PAGES_LIMIT):
        seen.add(path)
        async with await get(path) as answer:
            yield await answer.read(DOCUMENT_LIMIT)
            path = _next(answer)
        if not path:
            return
        if path in seen:
            raise DataLoss(f"registry: {name}: a list whose pages go round in a circle")
    raise TooLarge(f"registry: {name}: a list of more than {PAGES_LIMIT} pages")


def _next(answer: Answer) -> str:
    """Return the path of the next page; empty: there is none."""
    found = _NEXT.search(answer.headers.get("Link", ""))
    return own_path(answer.url, found[1]) if found else ""


def _decode(body: bytes, kind: type[_Kind], where: str) -> _Kind:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DataLoss(f"{where}: {error}") from error


def _bounded(count: int, limit: int, where: str) -> None:
    if count > limit:
        raise TooLarge(f"{where}: more than {limit}")
