"""``/networks``, but for connecting containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxwood.api import compat, decode
from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, Route
from boxwood.api.shapes.networks import inspect as inspect_shape
from boxwood.api.shapes.networks import summary
from boxwood.errors import InvalidArgument, NotFound
from boxwood.model.network import NetworkCreate
from boxwood.model.wire import replace

if TYPE_CHECKING:
    from boxwood.api.call import Call

LISTED_ENDPOINTS_BEFORE = 28
"""API minor before which lists showed who is in a network."""
FAMILIES_SINCE = 48
"""API minor since which a client can do without IPv4."""
_BOOLEANS = frozenset({"", "0", "1", "f", "false", "t", "true"})


async def list_networks(call: Call) -> Response:
    """``GET /networks``"""
    service = call.engine.networks
    found = service.list(call.filters())
    if call.minor < LISTED_ENDPOINTS_BEFORE:
        shown = [inspect_shape(network, service.endpoints_of(network.id)) for network in found]
    else:
        shown = [summary(network) for network in found]
    return json_response([compat.wrap("network", call.minor, one) for one in shown])


async def inspect(call: Call) -> Response:
    """``GET /networks/{id}``; with ``host`` besides what the driver has made on the host."""
    service, ref = call.engine.networks, call.params["id"]
    verbose = call.text("verbose")
    if verbose.lower() not in _BOOLEANS:
        raise InvalidArgument(f"invalid value for verbose: {verbose}: not true or false")
    network = service.get(ref)
    scope = call.text("scope")
    if scope and scope != network.scope:
        raise NotFound(f"network {ref} not found")
    shown = inspect_shape(network, service.endpoints_of(network.id))
    if call.flag("host"):
        shown["Host"] = service.on_host(network.id)
    return json_response(compat.wrap("network", call.minor, shown))


async def create(call: Call) -> Response:
    """``POST /networks/create``"""
    wanted = decode.convert(call.required(), NetworkCreate)
    wanted = call.admit.typed(wanted, wanted.name)
    if call.minor < FAMILIES_SINCE:
        wanted = replace(wanted, ipv4=None)
    network, warning = await call.engine.networks.create(wanted)
    return json_response({"Id": network.id, "Warning": warning}, 201)


async def remove(call: Call) -> Response:
    """``DELETE /networks/{id}``"""
    await call.engine.networks.remove(call.params["id"])
    return Response(204, b"", "")


async def prune(call: Call) -> Response:
    """``POST /networks/prune``"""
    removed = await call.engine.networks.prune(call.filters())
    return json_response({"NetworksDeleted": removed or None})


ROUTES = (
    Route("GET", "/networks", list_networks, action="network.list"),
    Route("POST", "/networks/create", create, body=JSON_BODY, action="network.create", typed=True),
    Route("POST", "/networks/prune", prune, action="network.prune"),
    Route("GET", "/networks/{id}", inspect, action="network.inspect", about="id"),
    Route("DELETE", "/networks/{id}", remove, action="network.remove", about="id"),
)
