"""``/volumes``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.api import decode
from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, Route
from boxwood.api.shapes.volumes import volume
from boxwood.errors import Unsupported
from boxwood.model.wire import Wire

if TYPE_CHECKING:
    from boxwood.api.call import Call

NAMED_TOO_BEFORE = 42
"""API minor before which prune took named volumes too."""


class VolumeCreate(Wire):
    """Body of ``POST /volumes/create``."""

    name: str = msgspec.field(default="", name="Name")
    driver: str = msgspec.field(default="", name="Driver")
    driver_opts: dict[str, str] | None = msgspec.field(default=None, name="DriverOpts")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")
    cluster_volume_spec: dict[str, object] | None = msgspec.field(
        default=None, name="ClusterVolumeSpec"
    )


async def list_volumes(call: Call) -> Response:
    """``GET /volumes``"""
    found, warnings = call.engine.volumes.list(call.filters())
    shown = [volume(record) for record in found]
    return json_response({"Volumes": shown, "Warnings": warnings or None})


async def create(call: Call) -> Response:
    """``POST /volumes/create``"""
    wanted = decode.convert(call.required(), VolumeCreate)
    wanted = call.admit.typed(wanted, wanted.name)
    if wanted.cluster_volume_spec is not None:
        raise Unsupported("create volume: ClusterVolumeSpec: this engine has no cluster volumes")
    record = await call.engine.volumes.create(
        wanted.name, wanted.driver, wanted.driver_opts, wanted.labels
    )
    return json_response(volume(record), 201)


async def inspect(call: Call) -> Response:
    """``GET /volumes/{name}``"""
    return json_response(volume(call.engine.volumes.get(call.params["name"])))


async def remove(call: Call) -> Response:
    """``DELETE /volumes/{name}``"""
    await call.engine.volumes.remove(call.params["name"], call.flag("force"))
    return Response(204, b"", "")


async def prune(call: Call) -> Response:
    """``POST /volumes/prune``"""
    wanted = call.filters()
    if call.minor < NAMED_TOO_BEFORE:
        wanted["all"] = ("true",)
    removed = await call.engine.volumes.prune(wanted)
    return json_response({"VolumesDeleted": removed, "SpaceReclaimed": 0})


ROUTES = (
    Route("GET", "/volumes", list_volumes, action="volume.list"),
    Route("POST", "/volumes/create", create, body=JSON_BODY, action="volume.create", typed=True),
    Route("POST", "/volumes/prune", prune, action="volume.prune"),
    Route("GET", "/volumes/{name}", inspect, action="volume.inspect", about="name"),
    Route("DELETE", "/volumes/{name}", remove, action="volume.remove", about="name"),
)
