"""What ``import URL`` brings: a body from a web server, piece by piece.

Only HTTP and HTTPS are spoken, through redirects too; proxies of the environment count, as they do
for Docker.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncGenerator

from boxwood.errors import DataLoss, InvalidArgument, NotFound, Unavailable

PIECE = 256 << 10
"""Bytes of one read."""
_SECONDS = 30.0
"""How long one read may take: a server that says nothing any more is given up."""
_URL_LIMIT = 8 << 10
"""Characters of an address."""


def address(text: str) -> str:
    """Return the URL that ``text`` is: without a scheme it is one of HTTP.

    Raises:
        InvalidArgument: another scheme, no host, or no URL.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InvalidArgument(f"import: {text[:200]}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > _URL_LIMIT:
        raise InvalidArgument(f"import: {text[:200]}: it is no http:// or https:// address")
    return url


async def fetched(url: str) -> AsyncGenerator[bytes, None]:
    """Yield the body of a GET; ``url`` is what :func:`address` returned.

    Raises:
        NotFound, Unavailable: the server says no, or cannot be reached.
        DataLoss: the body ends early.
    """
    response = await asyncio.to_thread(_open, url)
    try:
        while piece := await asyncio.to_thread(_read, response, url):
            yield piece
    finally:
        response.close()


def _open(url: str) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),  # a redirect to ftp: or file:
    ):
        opener.add_handler(handler)
    try:
        response = opener.open(url, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            kind = NotFound if error.code in (404, 410) else Unavailable
            raise kind(f"import: {url}: {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"import: {url}: {getattr(error, 'reason', error)}") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    try:
        piece = response.read(PIECE)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"import: {url}: {error}") from error
    if not piece and response.length:
        raise DataLoss(f"import: {url}: the body ends {response.length} bytes early")
    return piece
