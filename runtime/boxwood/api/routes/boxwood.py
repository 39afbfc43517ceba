"""``/boxwood``: what Docker's API has no place for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.api.http.message import TEXT, Response, json_response
from boxwood.api.routing import OWN, Route
from boxwood.drivers import manager

if TYPE_CHECKING:
    from boxwood.api.call import Call


async def docker_plugins(call: Call) -> Response:
    """``GET /plugins``: Docker's managed plugins, of which there are none."""
    call.filters()
    return json_response([])


async def plugins(_call: Call) -> Response:
    """``GET /boxwood/plugins``: every plugin that is installed, by kind."""
    found = [info for kind in manager.kinds() for info in manager.available(kind)]
    return json_response(msgspec.to_builtins(found))


async def doctor(call: Call) -> Response:
    """``GET /boxwood/doctor``: what this machine can do and what is missing."""
    return json_response(msgspec.to_builtins(await call.engine.doctor()))


async def fsck(call: Call) -> Response:
    """``GET /boxwood/fsck``: records and disk compared; ``POST`` also repairs."""
    repair = call.request.method == "POST"
    report = await call.engine.fsck(deep=call.flag("deep"), repair=repair)
    return json_response(msgspec.to_builtins(report))


async def archives(call: Call) -> Response:
    """``GET /boxwood/archives``: layers whose archives are kept beside their files, and why."""
    return json_response(
        [
            {"Layer": layer.diff_id, "Size": size, "Reason": reason}
            for layer, size, reason in call.engine.images.layers.blobs.kept()
        ]
    )


async def launch(call: Call) -> Response:
    """``GET /boxwood/launch/{id}``: the launch program of a container, readably."""
    text = await call.engine.containers.launch_program(call.params["id"])
    return Response(200, text.encode(), TEXT)


async def metrics(call: Call) -> Response:
    """``GET /boxwood/metrics``: what the engine and its extensions measure, for Prometheus."""
    await call.engine.names.measure()
    return Response(200, call.engine.metrics.render().encode(), TEXT)


async def store_send(call: Call) -> None:
    """``POST /boxwood/store/send?image=``: give an image to another Boxwood, over this client"""
    image = call.text("image")
    call.admit.typed(None, image)
    await call.engine.images.peers.send(image, call.request.upgrade())


async def store_receive(call: Call) -> None:
    """``POST /boxwood/store/receive?name=&exact=``: take an image from another Boxwood, likewise"""
    name = call.text("name")
    call.admit.typed(None, name)
    await call.engine.images.peers.receive(name, call.request.upgrade(), exact=call.flag("exact"))


ROUTES = (
    Route("GET", "/plugins", docker_plugins),
    Route("GET", "/boxwood/plugins", plugins, action="system.plugins", state=OWN),
    Route("GET", "/boxwood/doctor", doctor, action="system.doctor", state=OWN),
    Route("GET", "/boxwood/fsck", fsck, action="system.fsck", state=OWN),
    Route("POST", "/boxwood/fsck", fsck, action="system.repair", state=OWN),
    Route("GET", "/boxwood/archives", archives, action="system.df", state=OWN),
    Route("GET", "/boxwood/metrics", metrics, action="system.metrics", state=OWN),
    Route("POST", "/boxwood/store/send", store_send, action="image.save", typed=True, state=OWN),
    Route(
        "POST", "/boxwood/store/receive", store_receive, action="image.load", typed=True, state=OWN
    ),
    Route("GET", "/boxwood/launch/{id}", launch, action="container.inspect", about="id", state=OWN),
)
