"""``_ping``, ``version``, ``info`` and ``events``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.api import compat, versions
from boxwood.api.http.message import TEXT, Response, json_response
from boxwood.api.routing import Route
from boxwood.model import times

if TYPE_CHECKING:
    from boxwood.api.call import Call
    from boxwood.model.event import Event

JSON_LINES_SINCE = 52
"""API minor from which events say that they are lines."""
_RECORD_SEPARATOR = b"\x1e"
"""RFC 7464."""
_PING_HEADERS = (
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
)


async def ping(_call: Call) -> Response:
    """``GET /_ping``: needs nothing of the engine."""
    return Response(200, b"OK", TEXT, _PING_HEADERS)


async def ping_head(_call: Call) -> Response:
    """``HEAD /_ping``"""
    return Response(200, b"", TEXT, _PING_HEADERS)


async def version(call: Call) -> Response:
    """``GET /version``"""
    shown: dict[str, Any] = dict(call.engine.version())
    newest = versions.text(versions.NEWEST)
    minimum = shown.get("MinAPIVersion") or versions.text(versions.MINIMUM)
    shown["ApiVersion"], shown["MinAPIVersion"] = newest, minimum
    for component in shown.get("Components") or ():
        if component["Name"] == "Engine":
            component["Details"].update(ApiVersion=newest, MinAPIVersion=minimum)
    return json_response(shown)


async def info(call: Call) -> Response:
    """``GET /info``"""
    return json_response(call.engine.info())


async def events(call: Call) -> Response | None:
    """``GET /events``: the headers go out before the first event."""
    source = call.engine.events.subscribe(
        times.parse_timestamp(call.text("since")),
        times.parse_timestamp(call.text("until")),
        call.filters(),
    )
    content_type, prefix = _form(call)
    async with aclosing(source):
        stream = call.request.stream(content_type)
        async for event in source:
            if not compat.hidden(call.minor, event.type, event.action):
                await stream.write(prefix + _line(event, call.minor))
    return None


def _form(call: Call) -> tuple[str, bytes]:
    """Return content type and what each line begins with."""
    accepted = call.request.header("accept")
    if "application/json-seq" in accepted:
        return "application/json-seq", _RECORD_SEPARATOR
    if "application/x-ndjson" in accepted:
        return "application/x-ndjson", b""
    if "application/jsonl" in accepted or call.minor >= JSON_LINES_SINCE:
        return "application/jsonl", b""
    return "application/json", b""


def _line(event: Event, minor: int) -> bytes:
    shown: dict[str, Any] = msgspec.to_builtins(event)
    return msgspec.json.encode(compat.wrap("event", minor, shown)) + b"\n"


ROUTES = (
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping_head),
    Route("GET", "/version", version),
    Route("GET", "/info", info, action="system.info"),
    Route("GET", "/events", events, cancel=True, action="system.events"),
)
