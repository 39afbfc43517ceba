"""What registries answer: a body that is read within bounds, and the errors that statuses are."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from boxwood.errors import (
    BoxwoodError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that is no content: errors, tokens."""


class Answer:
    """A response whose body is still to be read. ``async with``: it lets go of the connection."""

    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status
        self.headers = response.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._response.release() if self._response.content.at_eof() else self._response.close()

    @property
    def media_type(self) -> str:
        """``Content-Type`` without its parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    def pieces(self) -> AsyncIterable[bytes]:
        """Yield the body as it comes."""
        return self._response.content.iter_any()

    async def read(self, limit: int = ANSWER_LIMIT) -> bytes:
        """Return the whole body; raises DataLoss when it is larger than ``limit`` bytes."""
        data = bytearray()
        try:
            async for piece in self._response.content.iter_any():
                data += piece
                if len(data) > limit:
                    raise DataLoss(f"registry: {self.url}: an answer larger than {limit} bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unavailable(self.url, error) from error
        return bytes(data)


def unavailable(url: str, error: BaseException) -> BoxwoodError:
    """Return the error for a network that failed."""
    where = urlsplit(url).netloc
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"registry {where}: no answer in time")
    text = str(error) or type(error).__name__
    return Unavailable(f"registry {where}: {text}")


class _Entry(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Entry] | None = None
    details: str = ""


_WORDS = {
    401: "unauthorized: authentication required",
    403: "denied: requested access to the resource is denied",
}
"""For answers that say nothing, those to HEAD: the words of the protocol."""


async def failure(answer: Answer) -> BoxwoodError:
    """Return the error that an answer stands for, in the registry's own words."""
    text = ""
    try:
        body = await answer.read(64 << 10)
        found = msgspec.json.decode(body, type=_Errors) if body else _Errors()
        text = "; ".join(
            f"{entry.code.lower().replace('_', ' ')}: {entry.message}"
            for entry in found.errors or ()
        )
        text = "".join(char for char in text if char.isprintable())[:500] or found.details[:200]
    except (msgspec.MsgspecError, BoxwoodError):
        text = ""
    where = urlsplit(answer.url)
    text = text or _WORDS.get(answer.status) or f"{where.netloc}{where.path}: {answer.status}"
    kinds: dict[int, type[BoxwoodError]] = {
        401: Unauthenticated, 403: PermissionDenied, 404: NotFound, 405: InvalidArgument,
        416: DataLoss, 429: Unavailable,
    }  # fmt: skip
    kind = kinds.get(answer.status)
    if kind is None:
        kind = Unavailable if answer.status >= 500 else InvalidArgument
    return kind(text)
