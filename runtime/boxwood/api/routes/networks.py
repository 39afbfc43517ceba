"""``/networks``: the predefined ones, until the network drivers land."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, NOT_YET, Route
from boxwood.api.shapes.networks import inspect as inspect_shape
from boxwood.api.shapes.networks import summary
from boxwood.errors import InvalidArgument
from boxwood.model.wire import Wire

if TYPE_CHECKING:
    from boxwood.api.call import Call


class NetworkCreate(Wire):
    """The part of ``POST /networks/create`` that decides how it is refused."""

    name: str = msgspec.field(default="", name="Name")


async def list_networks(call: Call) -> Response:
    """``GET /networks``"""
    found = call.engine.networks.list(call.filters())
    return json_response([summary(network) for network in found])


async def inspect(call: Call) -> Response:
    """``GET /networks/{id}``"""
    network = call.engine.networks.get(call.params["id"])
    scope = call.text("scope")
    if scope and scope != network.scope:
        raise InvalidArgument(f"network {network.name}: its scope is {network.scope}, not {scope}")
    running = call.engine.containers.list()
    return json_response(inspect_shape(network, running))


async def create(call: Call) -> Response:
    """``POST /networks/create``: refused with its reason."""
    wanted = call.admit.typed(call.body(NetworkCreate))
    if not wanted.name:
        raise InvalidArgument("network name is required")
    network = call.engine.networks.create(wanted.name)
    return json_response({"Id": network.id, "Warning": ""}, 201)


async def remove(call: Call) -> Response:
    """``DELETE /networks/{id}``"""
    call.engine.networks.remove(call.params["id"])
    return Response(204, b"", "")


ROUTES = (
    Route("GET", "/networks", list_networks, action="network.list"),
    Route(
        "POST",
        "/networks/create",
        create,
        body=JSON_BODY,
        action="network.create",
        typed=True,
        state=NOT_YET,
    ),
    Route("GET", "/networks/{id}", inspect, action="network.inspect", about="id"),
    Route("DELETE", "/networks/{id}", remove, action="network.remove", about="id", state=NOT_YET),
)
