"""What takes room, and making some: ``system df`` and the prunes that no other file has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import Route
from boxwood.api.shapes import containers as container_shapes
from boxwood.api.shapes import volumes as volume_shapes
from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.services.images.filters import truth

if TYPE_CHECKING:
    from boxwood.api.call import Call

KINDS = ("container", "image", "volume", "build-cache")


async def usage(call: Call) -> Response:
    """``GET /system/df``: in the form of API versions before 1.52."""
    wanted = tuple(call.request.query.get("type", ())) or KINDS
    for kind in wanted:
        if kind not in KINDS:
            raise InvalidArgument(f"unknown object type: {kind}")
    shown: dict[str, Any] = {
        "LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None,
    }  # fmt: skip
    if "image" in wanted:
        shown["Images"], shown["LayersSize"] = _images(call)
    if "container" in wanted:
        shown["Containers"] = await _containers(call)
    if "volume" in wanted:
        shown["Volumes"] = await _volumes(call)
    if "build-cache" in wanted:
        shown["BuildCache"] = []
    return json_response(shown)


def _images(call: Call) -> tuple[list[dict[str, Any]], int]:
    images = call.engine.images
    users = Counter(container.image_id for container in call.engine.containers.list(all=True))
    shared, total = images.shared_sizes()
    entries = [
        {
            **images.summary(image),
            "Containers": users[image.id],
            "SharedSize": shared.get(image.id, 0),
        }
        for image in images.list()
    ]
    return entries, total


async def _containers(call: Call) -> list[dict[str, Any]]:
    service, now = call.engine.containers, times.now()
    entries = []
    for container in service.list(all=True):
        writable, root = await service.sizes(container.id)
        entry = container_shapes.summary(container, now)
        entries.append({**entry, "SizeRw": writable, "SizeRootFs": root})
    return entries


async def _volumes(call: Call) -> list[dict[str, Any]]:
    service = call.engine.volumes
    entries = []
    for record in service.list()[0]:
        used = {
            "Size": await call.engine.volume_size(record.name),
            "RefCount": len(service.users_of(record.name)),
        }
        entries.append({**volume_shapes.volume(record), "UsageData": used})
    return entries


async def prune_images(call: Call) -> Response:
    """``POST /images/prune``"""
    wanted = call.filters()
    values = wanted.pop("dangling", ())
    dangling = truth("dangling", values) if values else True
    removed, freed = call.engine.images.prune(wanted, dangling=dangling)
    return json_response({"ImagesDeleted": removed or None, "SpaceReclaimed": freed})


async def prune_build(call: Call) -> Response:
    """``POST /build/prune``: nothing is built here yet, so there is no cache."""
    call.filters()
    return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})


ROUTES = (
    Route("GET", "/system/df", usage, action="system.df"),
    Route("POST", "/images/prune", prune_images, action="image.prune"),
    Route("POST", "/build/prune", prune_build, action="build.prune"),
)
