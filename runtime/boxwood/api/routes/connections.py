"""Containers in networks: connect, disconnect, and ports that are published while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, OWN, Route
from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.config import EndpointSettings, PortBinding
from boxwood.model.wire import Wire

if TYPE_CHECKING:
    from boxwood.api.call import Call
    from boxwood.services.networks.asked import Asked


class Connect(Wire):
    """Body of ``NetworkConnect``."""

    container: str = msgspec.field(default="", name="Container")
    endpoint: EndpointSettings | None = msgspec.field(default=None, name="EndpointConfig")


class Disconnect(Wire):
    """Body of ``NetworkDisconnect``."""

    container: str = msgspec.field(default="", name="Container")
    force: bool = msgspec.field(default=False, name="Force")


class Publish(Wire):
    """Ports to publish from now on, as ``PortBindings``, and others to publish no more.

    First of all those (none named: all) that the container ``From`` publishes are taken over.
    """

    add: dict[str, tuple[PortBinding, ...] | None] = msgspec.field(default_factory=dict, name="Add")
    remove: tuple[str, ...] = msgspec.field(default=(), name="Remove")
    giver: str = msgspec.field(default="", name="From")
    taken: tuple[str, ...] = msgspec.field(default=(), name="Ports")


async def connect(call: Call) -> Response:
    """``POST /networks/{id}/connect``"""
    body = call.admit.typed(call.body(Connect))
    if not body.container:
        raise InvalidArgument("connect container: Container: no container named")
    network = call.engine.networks.get(call.params["id"])
    endpoint = body.endpoint or EndpointSettings()
    await call.engine.containers.connect(body.container, network, endpoint)
    return Response(200, b"", "")


async def disconnect(call: Call) -> Response:
    """``POST /networks/{id}/disconnect``"""
    body = call.admit.typed(call.body(Disconnect))
    if not body.container:
        raise InvalidArgument("disconnect container: Container: no container named")
    network = call.engine.networks.get(call.params["id"])
    await call.engine.containers.disconnect(body.container, network, body.force)
    return Response(200, b"", "")


async def publish(call: Call) -> Response:
    """``POST /boxwood/containers/{id}/ports``"""
    body = call.admit.typed(call.body(Publish))
    containers, ref = call.engine.containers, call.params["id"]
    if body.giver:
        await containers.take_ports(ref, body.giver, body.taken)
    if body.add or body.remove:
        await containers.publish_ports(ref, body.add, body.remove)
    return Response(204, b"", "")


async def egress(call: Call) -> Response:
    """``GET /boxwood/containers/{id}/egress``: its egress policy, and what became of it"""
    container = call.engine.containers.get(call.params["id"])
    limits = call.engine.endpoints.limits
    policy = limits.policy(container)
    return json_response(
        {
            "Policy": None if policy is None else policy.text(),
            "Names": [_asked(one) for one in limits.asked.of(container.id)],
            "Refused": [_asked(one) for one in await limits.refused(container.id)],
        }
    )


def _asked(one: Asked) -> dict[str, object]:
    return {
        "Name": one.name,
        "Allowed": one.allowed,
        "Count": one.count,
        "Last": times.rfc3339(one.last),
    }


ROUTES = (
    Route(
        "GET",
        "/boxwood/containers/{id}/egress",
        egress,
        action="container.logs",
        about="id",
        state=OWN,
    ),
    Route(
        "POST",
        "/networks/{id}/connect",
        connect,
        body=JSON_BODY,
        action="network.connect",
        about="id",
        typed=True,
    ),
    Route(
        "POST",
        "/networks/{id}/disconnect",
        disconnect,
        body=JSON_BODY,
        action="network.disconnect",
        about="id",
        typed=True,
    ),
    Route(
        "POST",
        "/boxwood/containers/{id}/ports",
        publish,
        body=JSON_BODY,
        action="container.update",
        about="id",
        typed=True,
        state=OWN,
    ),
)
