"""Which mounts a container has, made sure of at create, turned into binds at start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from boxwood.drivers.isolation import SUBPATH
from boxwood.errors import DeadlineExceeded, InvalidArgument, NotFound
from boxwood.execution.spec import SpecMount
from boxwood.execution.worker_wire import HOST_DIRECTORY
from boxwood.model import ids
from boxwood.model.volume import ANONYMOUS_LABEL
from boxwood.model.wire import replace
from boxwood.services.containers import mountspec, spread

if TYPE_CHECKING:
    from pathlib import Path

    from boxwood.execution.worker import WorkerPool
    from boxwood.model.config import MountRequest
    from boxwood.model.container import Container, MountPoint
    from boxwood.services.containers.context import Context

PROBE_DEADLINE = 10.0
"""Seconds for a look at a path of the host: it may lie on a file system that hangs."""
SEED_DEADLINE = 300.0
"""Seconds for filling a volume from the image."""


class MountPlan:
    """The mounts of one container that is being created. ``made``: anonymous volumes so far."""

    def __init__(self, context: Context, container: Container) -> None:
        self._context = context
        self._container = container
        self._found: dict[str, MountPoint] = {}
        self.made: list[str] = []

    async def resolve(self) -> tuple[MountPoint, ...]:
        """Return the mount points, volumes made, in the order of their destinations.

        Raises:
            InvalidArgument: grammar, a duplicate, a source that is not there.
            NotFound: a container of ``VolumesFrom``, a volume driver.
        """
        host, config = self._container.host_config, self._container.config
        if not (host.binds or host.mounts or host.tmpfs or host.volumes_from or config.volumes):
            return ()
        for raw in host.volumes_from or ():
            self._borrow(raw)
        await self._own()
        tmpfs = set(mountspec.tmpfs_destinations(host))
        for path in config.volumes or {}:
            destination = mountspec.clean_path(path)
            if destination not in self._found and destination not in tmpfs:
                point = replace(mountspec.parse_bind(path, host.volume_driver), mode="")
                self._found[destination] = await self._volume(point, None)
        return tuple(self._found[path] for path in sorted(self._found))

    def _borrow(self, raw: str) -> None:
        """Take over the mounts of another container."""
        ref, mode = mountspec.parse_volumes_from(raw)
        words = mode.split(",")
        try:
            lender = self._context.store.get(ref)
        except NotFound as error:
            # As NotFound, Docker's client would take it for a missing image, and try to pull it.
            raise InvalidArgument(str(error)) from error
        for point in lender.mounts:
            if "ro" in words:
                point = replace(point, rw=False)
            self._found[point.destination] = replace(point, anonymous=False, mode="")

    async def _own(self) -> None:
        host = self._container.host_config
        taken = set()
        for destination in mountspec.tmpfs_destinations(host):
            if destination == "/":
                raise InvalidArgument("invalid specification: destination can't be '/'")
            if destination in taken:
                raise InvalidArgument(f"Duplicate mount point: {destination}")
            taken.add(destination)
            self._found.pop(destination, None)
        entries: list[tuple[MountPoint | None, MountRequest | None]] = [
            (mountspec.parse_bind(raw, host.volume_driver), None) for raw in host.binds or ()
        ]
        entries += [(mountspec.parse_mount(request), request) for request in host.mounts or ()]
        for point, request in entries:
            if point is None:
                continue
            if point.destination in taken:
                raise InvalidArgument(f"Duplicate mount point: {point.destination}")
            taken.add(point.destination)
            if point.type == mountspec.VOLUME:
                point = await self._volume(point, request)
            elif "create" not in point.options and not await exists(
                self._context.workers, point.source
            ):
                raise InvalidArgument(
                    'invalid mount config for type "bind": bind source path does not exist: '
                    f"{point.source}"
                )
            self._found[point.destination] = point

    async def _volume(self, point: MountPoint, request: MountRequest | None) -> MountPoint:
        """Make sure of the volume and put its facts in the mount point."""
        options = request.volume_options if request is not None else None
        config = options.driver_config if options else None
        labels = options.labels if options else None
        name = point.name
        if point.anonymous:
            name = ids.new_id()
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        record = await self._context.volumes.create(
            name, point.driver, (config.options or {}) if config else {}, labels
        )
        if point.anonymous:
            self.made.append(record.name)
        return replace(point, name=record.name, source=record.mountpoint, driver=record.driver)


async def exists(workers: WorkerPool, path: str) -> bool:
    """Whether something has this path on the host.

    Raises:
        DeadlineExceeded: its file system does not answer.
    """
    return bool((await _probe(workers, path, make=False))["exists"])


async def ensure_directory(workers: WorkerPool, path: str) -> None:
    """Make a missing source of a bind, as Docker does.

    Raises:
        InvalidArgument: it cannot be made.
        DeadlineExceeded: its file system does not answer.
    """
    error = (await _probe(workers, path, make=True))["error"]
    if error:
        raise InvalidArgument(
            f"error while creating mount source path '{path}': mkdir {path}: {error.lower()}"
        )


async def check_spread(workers: WorkerPool, path: str, propagation: str) -> None:
    """Refuse a propagation that the source's mount cannot give.

    Raises:
        InvalidArgument: in Docker's words. NotFound: it is not there.
        DeadlineExceeded: its file system does not answer.
    """
    if spread.needs_check(propagation):
        real = await _ask(workers, "real_path", {"path": path})
        spread.check(path, real["path"], propagation)


async def _probe(workers: WorkerPool, path: str, *, make: bool) -> dict[str, Any]:
    return await _ask(workers, "probe_path", {"path": path, "make": make})


async def _ask(workers: WorkerPool, job: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have a worker look. Not a thread: one that waits for a hung file system can neither be
    given up nor killed, and a daemon that has one cannot even be ended by SIGKILL."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await workers.call(job, arguments, [root], PROBE_DEADLINE)
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            f"look at path: {arguments['path']}: its file system does not answer"
        ) from error
    finally:
        os.close(root)


class MountedVolumes:
    """The binds of a start: volumes mounted and, at their first use, filled."""

    def __init__(self, context: Context, container: Container) -> None:
        self._context = context
        self._container = container
        self.mounted: dict[str, Path] = {}
        """Where each volume is."""

    async def prepare(self) -> list[SpecMount]:
        """Mount the volumes, make missing sources; returns what the spec binds.

        Raises:
            BoxwoodError: one of them is not to be had; :meth:`undo` lets go of the others.
        """
        return [await self._one(point) for point in self._container.mounts]

    async def _one(self, point: MountPoint) -> SpecMount:
        if point.type == mountspec.BIND:
            if "create" in point.options:
                await ensure_directory(self._context.workers, point.source)
            await check_spread(self._context.workers, point.source, point.propagation)
            return _bind(point, point.source)
        attributes = {
            "destination": point.destination,
            "propagation": point.propagation,
            "read/write": "true" if point.rw else "false",
        }
        path = await self._context.volumes.mount(point.name, self._container.id, attributes)
        self.mounted[point.name] = path
        return _bind(point, str(path))

    async def seed(self, root_fd: int) -> None:
        """Fill the empty volumes of a container that has never run from its image."""
        if self._container.state.has_started:
            return
        for point in self._container.mounts:
            if (
                point.type == mountspec.VOLUME
                and "nocopy" not in point.options
                and not point.subpath
                and self._context.volumes.seedable(point.name)
            ):
                await self._seed_one(root_fd, point)

    async def _seed_one(self, root_fd: int, point: MountPoint) -> None:
        await self._context.workers.call(
            "seed_volume",
            {"path": point.destination, HOST_DIRECTORY: str(self.mounted[point.name])},
            [root_fd],
            SEED_DEADLINE,
        )

    async def undo(self) -> None:
        """Let go of what was mounted."""
        for name in self.mounted:
            await self._context.volumes.unmount(name, self._container.id)
        self.mounted = {}


def _bind(point: MountPoint, source: str) -> SpecMount:
    options = ["bind" if "non-recursive" in point.options else "rbind"]
    options.append(point.propagation or "rprivate")
    if not point.rw:
        options.append("ro" if "ro-non-recursive" in point.options else "rro")
    if point.subpath:
        options.append(SUBPATH + point.subpath)
    return SpecMount(destination=point.destination, source=source, options=tuple(options))
