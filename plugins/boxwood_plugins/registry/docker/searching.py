"""Search: the one request of the first registry protocol (``/v1/search``) that is still served."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from boxwood.drivers.registry import Credentials, SearchResult
from boxwood.errors import DataLoss, NotFound, Unsupported
from boxwood.model.reference import DEFAULT_DOMAIN
from boxwood_plugins.registry.docker.hosts import Host

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.client import Client

HUB = Host("index.docker.io", ("https",))
"""Where Docker Hub is searched: another host than the one that has the images."""


class _Page(msgspec.Struct):
    results: list[SearchResult] | None = None


async def search(
    client: Client, domain: str, term: str, limit: int, credentials: Credentials | None
) -> list[SearchResult]:
    """Ask a registry; see the contract."""
    host = HUB if domain == DEFAULT_DOMAIN else client.hosts.registry(domain)
    path = f"/v1/search?{urlencode({'q': term, 'n': limit})}"
    try:
        async with await client.ask(host, "GET", path, scope="", credentials=credentials) as answer:
            page = msgspec.json.decode(await answer.read(), type=_Page)
    except NotFound as error:
        raise Unsupported(f"search: {domain}: this registry has no search (/v1/search)") from error
    except msgspec.MsgspecError as error:
        raise DataLoss(f"search: {domain}: {error}") from error
    return (page.results or [])[:limit]
