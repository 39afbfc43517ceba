"""Operations of Docker's API that are not there: each says so, none pretends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.api.http.message import Response, error_response
from boxwood.api.operations import OPERATIONS
from boxwood.api.routing import NO_BODY, NOT_YET, REFUSED, STREAM_BODY, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.api.call import Call

SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
_SWARM_ROOTS = frozenset({"swarm", "nodes", "services", "tasks", "secrets", "configs"})
_STREAMED = frozenset(
    {"POST /build", "PUT /containers/{id}/archive", "POST /plugins/create", "POST /session"}
)
"""Their body is large and nobody reads it: the answer comes at once."""
EXTRA = (
    "POST /build/cancel",
    "POST /grpc",
    "GET /containers/{id}/checkpoints",
    "POST /containers/{id}/checkpoints",
)
"""Served by Docker, not in its OpenAPI file."""


async def _swarm(_call: Call) -> Response:
    return error_response(503, SWARM)


async def _plugin(call: Call) -> Response:
    if call.request.operation == "GET /plugins/{name}/json":
        # There are none, so none of that name: `docker inspect NAME` asks here last.
        return error_response(404, f'plugin "{call.params["name"]}" not found')
    return error_response(
        501,
        f"{call.request.operation} is not served by this engine: its plugins are Python packages, "
        "see `boxwood plugin ls`",
    )


async def _not_yet(call: Call) -> Response:
    return error_response(501, f"{call.request.operation} is not served by this engine yet")


def routes(served: Iterable[Route]) -> list[Route]:
    """Return a route for every operation of Docker's that ``served`` does not have."""
    known = {(route.method, _bare(route.pattern)) for route in served}
    absent = []
    for operation in (*OPERATIONS, *EXTRA):
        method, _, path = operation.partition(" ")
        if (method, _bare(path)) in known:
            continue
        absent.append(_route(operation, method, path))
    return absent


def _route(operation: str, method: str, path: str) -> Route:
    body = STREAM_BODY if operation in _STREAMED else NO_BODY
    root = path[1:].partition("/")[0]
    if root in _SWARM_ROOTS:
        return Route(method, path, _swarm, body=STREAM_BODY, state=REFUSED)
    if root == "plugins":
        return Route(method, path, _plugin, body=STREAM_BODY, state=REFUSED)
    return Route(method, path, _not_yet, body=body, state=NOT_YET)


def _bare(pattern: str) -> str:
    """A pattern without the names of its variables."""
    return "/".join("{}" if part.startswith("{") else part for part in pattern.split("/"))
