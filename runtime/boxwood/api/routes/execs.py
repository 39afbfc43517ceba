"""``/exec``: more processes in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.api.http.message import Response, json_response
from boxwood.api.routes.containers import size_of
from boxwood.api.routing import JSON_BODY, Route
from boxwood.errors import InvalidArgument
from boxwood.model.request import ExecConfig, ExecStart
from boxwood.model.wire import replace

if TYPE_CHECKING:
    from boxwood.api.call import Call


async def create(call: Call) -> Response:
    """``POST /containers/{id}/exec``"""
    config = call.body(ExecConfig)
    if not config.cmd:
        raise InvalidArgument("No exec command specified")
    if call.minor < 42:
        config = replace(config, console_size=None)
    config = call.admit.typed(config)
    identifier = await call.engine.containers.exec_create(call.params["id"], config)
    return json_response({"Id": identifier}, 201)


async def start(call: Call) -> Response | None:
    """``POST /exec/{id}/start``: hijacks the connection unless detached."""
    options = call.admit.typed(call.body(ExecStart))
    containers = call.engine.containers
    if options.detach:
        await containers.exec_start(call.params["id"], options, None)
        return Response(200, b"", "")
    await containers.exec_start(call.params["id"], options, call.request.upgrade())
    return None


async def resize(call: Call) -> Response:
    """``POST /exec/{id}/resize``"""
    height, width = size_of(call)
    await call.engine.containers.exec_resize(call.params["id"], height, width)
    return Response(200, b"", "")


async def inspect(call: Call) -> Response:
    """``GET /exec/{id}/json``"""
    return json_response(call.engine.containers.exec_inspect(call.params["id"]))


ROUTES = (
    Route(
        "POST",
        "/containers/{id}/exec",
        create,
        body=JSON_BODY,
        action="container.exec",
        about="id",
        typed=True,
    ),
    Route(
        "POST",
        "/exec/{id}/start",
        start,
        body=JSON_BODY,
        action="exec.start",
        about="id",
        typed=True,
    ),
    Route("POST", "/exec/{id}/resize", resize, action="exec.resize", about="id"),
    Route("GET", "/exec/{id}/json", inspect, action="exec.inspect", about="id"),
)
