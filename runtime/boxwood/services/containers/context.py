"""What every part of the containers service works with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from boxwood.services.containers.live import Live

if TYPE_CHECKING:
    from boxwood.drivers.isolation import IsolationDriver
    from boxwood.drivers.log import LogDriver, LogSource
    from boxwood.drivers.network import NetworkDriver
    from boxwood.execution.names import View
    from boxwood.execution.netns import NetnsPool
    from boxwood.execution.spec import SpecDefaults
    from boxwood.execution.task import Launcher
    from boxwood.execution.trash import Trash
    from boxwood.execution.worker import WorkerPool
    from boxwood.model.container import Container
    from boxwood.model.egress import Policy
    from boxwood.model.endpoint import PortRequest, SandboxState
    from boxwood.model.image import Image
    from boxwood.model.volume import VolumeRecord
    from boxwood.services.containers.store import ContainerStore
    from boxwood.store.layers import LayerStore

log = logging.getLogger(__name__)


class Images(Protocol):
    """What the service needs of the images."""

    def get(self, ref: str) -> Image:
        """Return an image; NotFound ``No such image: X``."""


class Volumes(Protocol):
    """What the service needs of the volumes."""

    def get(self, name: str) -> VolumeRecord: ...
    def seedable(self, name: str) -> bool: ...
    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> VolumeRecord: ...
    async def remove(self, name: str, force: bool = False) -> None: ...
    async def mount(self, name: str, container: str, attributes: Mapping[str, str]) -> Path: ...
    async def unmount(self, name: str, container: str) -> None: ...


class NetworkInfo(Protocol):
    """A network as the service shows it in the record."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def dns(self) -> str: ...


class Networks(Protocol):
    """What the service needs of the networks."""

    def resolve(self, mode: str) -> tuple[NetworkInfo | None, NetworkDriver]: ...


class Limits(Protocol):
    """What the service needs of the containers' egress policies."""

    def policy(self, container: Container) -> Policy | None: ...


class Endpoints(Protocol):
    """What the service needs of the places in networks."""

    @property
    def limits(self) -> Limits: ...
    def check(self, container: Container) -> list[str]: ...
    def connects(self, container: Container) -> bool: ...
    async def join(self, container: Container, netns: int, view: View | None) -> SandboxState: ...
    async def leave(self, container: Container, netns: int | None = None) -> None: ...
    async def connect(
        self, container: Container, name: str, netns: int, view: View | None
    ) -> SandboxState: ...
    async def disconnect(self, container: Container, name: str, netns: int) -> SandboxState: ...
    async def publish(self, container: Container, netns: int) -> SandboxState: ...
    async def take(
        self,
        giver: tuple[Container, int],
        taker: tuple[Container, int],
        moved: Sequence[PortRequest],
    ) -> tuple[SandboxState, SandboxState]: ...
    async def renamed(self, container: Container) -> None: ...
    def claim(self, container: Container) -> None: ...
    async def reconcile(
        self, containers: Sequence[Container], views: Mapping[str, View]
    ) -> list[str]: ...


class Events(Protocol):
    """What the service needs of the event bus."""

    def publish(
        self, type: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None
    ) -> object: ...


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the configuration what containers are made with. Durations are seconds."""

    spec: Any
    """A ``SpecDefaults``."""
    storage_driver: str
    runtime: str
    runtimes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Other names that clients use for an isolation driver."""
    network: str = "bridge"
    ipc_mode: str = "private"
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = msgspec.field(default_factory=dict)
    stop_timeout: int = 10
    detach_keys: str = "ctrl-p,ctrl-q"
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()

    @property
    def spec_defaults(self) -> SpecDefaults:
        """Return :attr:`spec` by its type."""
        found: SpecDefaults = self.spec
        return found


@dataclass(slots=True)
class Context:
    """Collaborators and the state in memory, shared by the parts of the service.

    Attributes:
        data: ``<data-root>/containers``; run: ``<exec-root>/containers``.
        keys: ``<exec-root>/netns``: paths to network namespaces.
        isolation: returns a loaded isolation driver by name.
        log_driver: returns a loaded log driver by name.
        adjust: the extensions' ``adjust_spec``; raises errors of ours only.
        host_gateway: returns the host's addresses as containers reach them.
        live: what is known of containers beyond their records, by id.
    """

    settings: Settings
    store: ContainerStore
    layers: LayerStore
    images: Images
    volumes: Volumes
    networks: Networks
    endpoints: Endpoints
    netns: NetnsPool
    events: Events
    workers: WorkerPool
    launcher: Launcher
    trash: Trash
    isolation: Callable[[str], IsolationDriver]
    log_driver: Callable[[str], LogDriver]
    adjust: Callable[[dict[str, Any], Container], None]
    host_gateway: Callable[[], tuple[str, ...]]
    data: Path
    run: Path
    keys: Path
    live: dict[str, Live] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    stopping: bool = False
    """The daemon stops every container: none is restarted, and nobody asked for it."""
    closing: bool = False

    def of(self, key: str) -> Live:
        """Return the live part of a container; made at the first call."""
        found = self.live.get(key)
        if found is None:
            found = self.live[key] = Live(key)
        return found

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Run something in the background; what it raises is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: %s", task.get_name(), task.exception(), exc_info=task.exception())

    def log_of(self, container: Container) -> tuple[LogDriver, LogSource, Mapping[str, str]]:
        """Return a container's log driver, what it is told of it, and its options."""
        from boxwood.drivers.log import LogSource

        config = container.config
        source = LogSource(
            id=container.id,
            name=container.name,
            image_id=container.image_id,
            image_name=container.image_ref,
            directory=self.data / container.id,
            labels=config.labels or {},
            env=dict(entry.split("=", 1) for entry in config.env or () if "=" in entry),
        )
        wanted = container.host_config.log_config
        return self.log_driver(wanted.type), source, wanted.config or {}

    def publish(
        self, container: Container, action: str, attributes: Mapping[str, str] | None = None
    ) -> None:
        """Publish an event of a container: its labels, image and name come with it."""
        self.events.publish(
            "container",
            action,
            container.id,
            {
                **(container.config.labels or {}),
                "image": container.image_ref,
                "name": container.name,
                **(attributes or {}),
            },
        )
