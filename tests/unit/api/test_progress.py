"""Streams of messages: an error after the first one is a message too, whatever its kind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from boxwood.api.http.message import ClientGone
from boxwood.api.progress import Progress
from boxwood.errors import NotFound


class Sink:
    """What a request is to a progress: an operation and a stream."""

    operation = "pull"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def stream(self, content_type: str) -> Sink:
        assert content_type == "application/json"
        return self

    def send(self, data: bytes) -> None:
        self.sent.append(json.loads(data))


async def work(sink: Sink, error: BaseException) -> None:
    async with Progress(sink) as progress:  # type: ignore[arg-type]
        progress.emit({"status": "begun"})
        raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotFound("no such layer"), "no such layer"),
        (KeyError("secret detail"), "pull: internal error; see the log"),
    ],
)
def test_an_error_is_told(error: Exception, text: str) -> None:
    """Ours in its words, a bug without them: the client never takes a broken stream for success."""
    sink = Sink()
    asyncio.run(work(sink, error))
    assert sink.sent[-1] == {"errorDetail": {"message": text}, "error": text}


@pytest.mark.parametrize("error", [ClientGone(), asyncio.CancelledError()])
def test_nobody_is_told(error: BaseException) -> None:
    """Who is gone, or has given up, is sent nothing."""
    sink = Sink()
    with pytest.raises(type(error)):
        asyncio.run(work(sink, error))
    assert sink.sent == [{"status": "begun"}]
