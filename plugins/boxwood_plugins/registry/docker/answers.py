"""What registries answer: a body that is read within bounds, and the errors that statuses are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
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
"""Bytes of an answer that is no content: tokens."""
ERROR_LIMIT = 64 << 10
"""Bytes of an answer that says what went wrong."""
LEAST = 16 << 10
"""Bytes that must come in :attr:`Waits.stall`: a line of 2,200 baud brings more."""


class Waits(msgspec.Struct, frozen=True):
    """How long something may take, in seconds.

    Attributes:
        connect: until a host is reached.
        stall: without a byte, or with fewer than LEAST bytes.
        head: until an answer begins, after the last byte of what is sent.
        finish: the same where a registry first has to digest what it got (PUT, PATCH).
        document: until a manifest, a token or an error is here whole.
        longest: waited because a registry asks for it (Retry-After).
        pause: before a second attempt; twice as long before each further one.
    """

    connect: float = 15.0
    stall: float = 60.0
    head: float = 60.0
    finish: float = 300.0
    document: float = 300.0
    longest: float = 60.0
    pause: float = 0.2

    @classmethod
    def parse(cls, text: str) -> Waits:
        """Return the waits times a factor (``0.02``), or some of them (``stall=2,pause=0.01``).

        Raises:
            InvalidArgument: another name, or no number.
        """
        try:
            if text and "=" not in text:
                return cls(*(float(text) * seconds for seconds in msgspec.structs.astuple(cls())))
            pairs = dict(part.partition("=")[::2] for part in text.split(",") if part)
            return cls(**{key: float(value) for key, value in pairs.items()})
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"waits: {text}: {error}") from error


class Answer:
    """A response whose body is still to be read. ``async with``: it lets go of the connection."""

    def __init__(self, response: aiohttp.ClientResponse, url: str, waits: Waits) -> None:
        self._response, self._waits = response, waits
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

    @property
    def plain(self) -> bool:
        """Is the body sent as it is, as was asked for? A blob's digest decides on its own."""
        return str(self.headers.get("Content-Encoding", "identity")).lower() in ("identity", "")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            Unavailable: the connection broke.
            DeadlineExceeded: nothing comes, or next to nothing (a byte now and then).
        """
        content, waited, got = self._response.content, 0.0, 0
        while True:
            began = time.monotonic()
            try:
                piece = await content.readany()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise unavailable(self.url, error) from error
            if not piece:
                return
            waited += time.monotonic() - began
            got += len(piece)
            if waited >= self._waits.stall:
                if got < LEAST:
                    where = urlsplit(self.url).netloc
                    raise DeadlineExceeded(
                        f"registry {where}: sent {got} bytes in {waited:.0f} s: given up"
                    )
                waited, got = 0.0, 0
            yield piece

    async def read(self, limit: int = ANSWER_LIMIT) -> bytes:
        """Return the whole body.

        Raises:
            DataLoss: it is larger than ``limit`` bytes, or packed although nobody asked for it.
            Unavailable, DeadlineExceeded
        """
        if not self.plain:
            packed = str(self.headers["Content-Encoding"])[:20]
            raise DataLoss(f"registry: {self.url}: an answer packed with {packed!r}, unasked for")
        data = bytearray()
        try:
            async with asyncio.timeout(self._waits.document), aclosing(self.pieces()) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > limit:
                        raise DataLoss(f"registry: {self.url}: an answer larger than {limit} bytes")
        except TimeoutError as error:
            raise unavailable(self.url, error) from error
        return bytes(data)


def unavailable(url: str, error: BaseException) -> BoxwoodError:
    """Return the error for a network that failed."""
    where = urlsplit(url).netloc
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"registry {where}: no answer in time")
    broken = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)
    if isinstance(error, broken) or getattr(error, "errno", 0) is None:
        text = "the connection broke off"
    elif isinstance(error, aiohttp.ClientResponseError):
        text = "its answer is no HTTP"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = f"its certificate is not trusted: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = f"cannot connect: {_cause(error.os_error)}"
    else:
        text = str(error) or type(error).__name__
    return Unavailable(f"registry {where}: {text}")


def _cause(error: OSError) -> str:
    """Return why a connection failed; asyncio puts the address before the system's words."""
    code = error.errno
    return os.strerror(code) if code and code > 0 else str(error.strerror or error)


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
    try:
        body = await answer.read(ERROR_LIMIT)
        found = msgspec.json.decode(body, type=_Errors) if body else _Errors()
        text = "; ".join(
            f"{entry.code.lower().replace('_', ' ')}: {entry.message}"
            for entry in (found.errors or ())[:5]
        )
        text = text or found.details
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, BoxwoodError):
        text = ""
    where = urlsplit(answer.url)
    text = "".join(char for char in text if char.isprintable())[:500]
    if not text:
        unexpected = f"received unexpected HTTP status: {answer.status}"
        text = _WORDS.get(answer.status) or f"{where.netloc}{where.path}: {unexpected}"
    kinds: dict[int, type[BoxwoodError]] = {
        401: Unauthenticated, 403: PermissionDenied, 404: NotFound, 405: InvalidArgument,
        416: DataLoss, 429: Unavailable,
    }  # fmt: skip
    kind = kinds.get(answer.status)
    if kind is None:
        kind = Unavailable if answer.status >= 500 else InvalidArgument
    return kind(text)
