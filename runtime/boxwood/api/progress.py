"""A stream of JSON messages about long work (load, import, pull, push)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from boxwood.api.http.message import BadRequest, ClientGone
from boxwood.errors import BoxwoodError

if TYPE_CHECKING:
    from boxwood.api.http.message import Request, Stream

log = logging.getLogger("boxwood.api")


class Progress:
    """Context of such work.

    The head is sent with the first message: an error before it is a plain HTTP error, one after
    it a message with ``error`` and ``errorDetail``, and status 200.
    """

    def __init__(self, request: Request, content_type: str = "application/json") -> None:
        self._request = request
        self._content_type = content_type
        self._stream: Stream | None = None

    def emit(self, message: Mapping[str, Any]) -> None:
        """Send one message. Raises ClientGone."""
        if self._stream is None:
            self._stream = self._request.stream(self._content_type)
        self._stream.send(msgspec.json.encode(message) + b"\r\n")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            if self._stream is None:
                self._request.stream(self._content_type)
            return False
        ours = isinstance(error, Exception) and not isinstance(error, ClientGone)
        if self._stream is None or not ours:
            return False
        if isinstance(error, BoxwoodError | BadRequest):
            log.info("api: %s: %s", self._request.operation, error)
            text = str(error)
        else:  # a bug: the client is told that there was an error, not that all went well
            log.error("api: %s: unexpected error", self._request.operation, exc_info=error)
            text = f"{self._request.operation}: internal error; see the log"
        self.emit({"errorDetail": {"message": text}, "error": text})
        return True
