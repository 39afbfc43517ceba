"""Logs and attach: what flows while a container lives."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from boxwood.api.http.upgrade import MULTIPLEXED, MULTIPLEXED_SINCE, RAW
from boxwood.api.routing import Route
from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.request import AttachOptions, LogOptions

if TYPE_CHECKING:
    from boxwood.api.call import Call
    from boxwood.api.http.message import Response


def _tail(text: str) -> int:
    """Return the number of lines; everything that is no number means all, as with Docker."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


async def logs(call: Call) -> Response | None:
    """``GET /containers/{id}/logs``"""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    options = LogOptions(
        stdout=stdout,
        stderr=stderr,
        since=times.parse_timestamp(call.text("since")),
        until=times.parse_timestamp(call.text("until")),
        timestamps=call.flag("timestamps"),
        details=call.flag("details"),
        follow=call.flag("follow"),
        tail=_tail(call.text("tail")),
    )
    container = call.engine.containers.get(call.params["id"])
    source = call.engine.containers.logs(container.id, options)
    framed = call.minor >= MULTIPLEXED_SINCE and not container.config.tty
    stream = call.request.stream(MULTIPLEXED if framed else RAW)
    try:
        async for piece in source:
            await stream.write(piece)
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
    return None


async def attach(call: Call) -> None:
    """``POST /containers/{id}/attach``: the client's socket goes to the container's shim."""
    options = AttachOptions(
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        stream=call.flag("stream"),
        logs=call.flag("logs"),
        detach_keys=call.text("detachKeys") if call.has("detachKeys") else None,
    )
    upgrade = call.request.upgrade()
    await call.engine.containers.attach(call.params["id"], options, upgrade)


ROUTES = (
    Route(
        "GET",
        "/containers/{id}/logs",
        logs,
        cancel=True,
        action="container.logs",
        about="id",
    ),
    Route("POST", "/containers/{id}/attach", attach, action="container.attach", about="id"),
)
