"""``/containers``: everything but the streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxwood.api import compat, query
from boxwood.api.create import decode_create
from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, STREAM_BODY, Route
from boxwood.api.shapes import containers as shapes
from boxwood.errors import InvalidArgument, NotFound
from boxwood.model import times
from boxwood.model.request import CreateRequest

if TYPE_CHECKING:
    from boxwood.api.call import Call
    from boxwood.model.container import Container

UINT32 = 2**32 - 1
INT32 = 2**31 - 1
MAX_START_BODY = 7
"""Bytes of a body that a start may have: an empty JSON object and white space."""
SIGNAL_SINCE = 42
"""API minor from which stop and restart take a signal."""
_DONE = Response(204, b"", "")


async def list_containers(call: Call) -> Response:
    """``GET /containers/json``"""
    limit = call.number("limit", 0)
    size = call.flag("size")
    found = call.engine.containers.list(
        all=call.flag("all"), limit=limit, size=size, filters=call.filters()
    )
    now = times.now()
    current = _current_names(call, found)
    shown = [
        shapes.summary(container, now) | {"Image": current[container.image_ref, container.image_id]}
        for container in found
    ]
    if size:
        for container, entry in zip(found, shown, strict=True):
            entry.update(await _sizes(call, container.id))
    return json_response(shown)


def _current_names(call: Call, found: list[Container]) -> dict[tuple[str, str], str]:
    """Return for what containers were made of (as it was called, its id) how it is called now.

    The id when that name is another image's by now, or nobody's.
    """
    current = {}
    for ref, key in {(container.image_ref, container.image_id) for container in found}:
        try:
            same = call.engine.images.get(ref).id == key
        except (NotFound, InvalidArgument):
            same = False
        current[ref, key] = ref if same else key
    return current


async def _sizes(call: Call, ref: str) -> dict[str, int]:
    writable, root = await call.engine.containers.sizes(ref)
    return {"SizeRw": writable, "SizeRootFs": root}


async def create(call: Call) -> Response:
    """``POST /containers/create``"""
    body = decode_create(call.required(), call.minor, call.engine.config.default_network)
    name = call.text("name")
    request = CreateRequest(
        config=body.config, host_config=body.host_config, networking=body.networking
    )
    request = call.admit.typed(request, name)
    identifier, warnings = await call.engine.containers.create(
        name or None, request, call.text("platform")
    )
    return json_response({"Id": identifier, "Warnings": [*body.warnings, *warnings]}, 201)


async def inspect(call: Call) -> Response:
    """``GET /containers/{id}/json``"""
    containers = call.engine.containers
    container = containers.get(call.params["id"])
    shown = shapes.inspect(container, containers.details(container.id))
    if call.flag("size"):
        shown.update(await _sizes(call, container.id))
    return json_response(compat.wrap("container", call.minor, shown))


async def start(call: Call) -> Response:
    """``POST /containers/{id}/start``"""
    body = await call.request.body.read(64 * 1024)
    if len(body) > MAX_START_BODY:
        raise InvalidArgument("starting container with non-empty request body is not supported")
    keys = call.text("detachKeys") if call.has("detachKeys") else None
    if call.text("checkpoint"):
        raise InvalidArgument("start container: checkpoint: checkpoints are not served yet")
    call.admit.typed(None)
    await call.engine.containers.start(call.params["id"], keys)
    return _DONE


def _stop_options(call: Call) -> tuple[int | None, str | None]:
    timeout = call.number("t", 0, -1, INT32) if call.text("t") else None
    signal = call.text("signal") if call.minor >= SIGNAL_SINCE else ""
    return timeout, signal or None


async def stop(call: Call) -> Response:
    """``POST /containers/{id}/stop``"""
    await call.engine.containers.stop(call.params["id"], *_stop_options(call))
    return _DONE


async def restart(call: Call) -> Response:
    """``POST /containers/{id}/restart``"""
    await call.engine.containers.restart(call.params["id"], *_stop_options(call))
    return _DONE


async def kill(call: Call) -> Response:
    """``POST /containers/{id}/kill``"""
    await call.engine.containers.kill(call.params["id"], call.text("signal") or "SIGKILL")
    return _DONE


async def pause(call: Call) -> Response:
    """``POST /containers/{id}/pause``"""
    await call.engine.containers.pause(call.params["id"])
    return _DONE


async def unpause(call: Call) -> Response:
    """``POST /containers/{id}/unpause``"""
    await call.engine.containers.unpause(call.params["id"])
    return _DONE


async def rename(call: Call) -> Response:
    """``POST /containers/{id}/rename``"""
    name = call.text("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    await call.engine.containers.rename(call.params["id"], name)
    return _DONE


async def resize(call: Call) -> Response:
    """``POST /containers/{id}/resize``"""
    height, width = size_of(call)
    await call.engine.containers.resize(call.params["id"], height, width)
    return Response(200, b"", "")


def size_of(call: Call) -> tuple[int, int]:
    """Return the rows and columns of a resize. Raises InvalidArgument."""
    return (
        query.number("h", call.text("h"), 0, UINT32),
        query.number("w", call.text("w"), 0, UINT32),
    )


async def wait(call: Call) -> Response | None:
    """``POST /containers/{id}/wait``: the headers go out before anything is waited for.

    Clients wait first and start then; the waiter is registered before they see the headers.
    """
    condition = call.text("condition") or "not-running"
    pending = call.engine.containers.wait(call.params["id"], condition)
    stream = call.request.stream("application/json")
    result = await pending
    answer: dict[str, Any] = {"StatusCode": result.status_code}
    answer["Error"] = {"Message": result.error} if result.error else None
    await stream.write(json_response(answer).body)
    return None


async def remove(call: Call) -> Response:
    """``DELETE /containers/{id}``"""
    await call.engine.containers.remove(
        call.params["id"],
        force=call.flag("force"),
        volumes=call.flag("v"),
        link=call.flag("link"),
    )
    return _DONE


async def prune(call: Call) -> Response:
    """``POST /containers/prune``"""
    removed, freed = await call.engine.containers.prune(call.filters())
    return json_response({"ContainersDeleted": removed, "SpaceReclaimed": freed})


def _route(method: str, tail: str, handler: Any, action: str, **more: Any) -> Route:
    path = "/containers/{id}" + tail
    return Route(method, path, handler, action=f"container.{action}", about="id", **more)


ROUTES = (
    Route("GET", "/containers/json", list_containers, action="container.list"),
    Route(
        "POST",
        "/containers/create",
        create,
        body=JSON_BODY,
        action="container.create",
        typed=True,
    ),
    Route("POST", "/containers/prune", prune, action="container.prune"),
    _route("GET", "/json", inspect, "inspect"),
    _route("POST", "/start", start, "start", body=STREAM_BODY, typed=True),
    _route("POST", "/stop", stop, "stop"),
    _route("POST", "/restart", restart, "restart"),
    _route("POST", "/kill", kill, "kill"),
    _route("POST", "/pause", pause, "pause"),
    _route("POST", "/unpause", unpause, "unpause"),
    _route("POST", "/rename", rename, "rename"),
    _route("POST", "/resize", resize, "resize"),
    _route("POST", "/wait", wait, "wait", cancel=True),
    _route("DELETE", "", remove, "remove"),
)
