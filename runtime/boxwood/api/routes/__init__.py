"""The routes, one file for each group."""

from __future__ import annotations

from boxwood.api.routes import (
    absent,
    archive,
    boxwood,
    connections,
    containers,
    disk,
    execs,
    images,
    networks,
    registries,
    streams,
    system,
    volumes,
)
from boxwood.api.routing import Route


def all_routes() -> list[Route]:
    """Return every route, the ones that refuse included."""
    served = [
        *system.ROUTES,
        *disk.ROUTES,
        *boxwood.ROUTES,
        *containers.ROUTES,
        *archive.ROUTES,
        *streams.ROUTES,
        *execs.ROUTES,
        *images.ROUTES,
        *registries.ROUTES,
        *volumes.ROUTES,
        *networks.ROUTES,
        *connections.ROUTES,
    ]
    return served + absent.routes(served)
