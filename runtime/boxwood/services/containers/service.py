"""The containers service: the one owner of every container's state."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from boxwood.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from boxwood.execution.task import PROGRAM_FILE
from boxwood.model import container as states
from boxwood.model import names
from boxwood.model.container import Container
from boxwood.model.request import WaitResult
from boxwood.model.wire import replace
from boxwood.services.containers.archive import Archiver, PathStat
from boxwood.services.containers.attach import Attacher
from boxwood.services.containers.changes import changes
from boxwood.services.containers.connect import Connector
from boxwood.services.containers.create import Creator
from boxwood.services.containers.execs import Execs
from boxwood.services.containers.exits import Exits
from boxwood.services.containers.health import HealthMonitor
from boxwood.services.containers.listing import Lister
from boxwood.services.containers.live import NEXT_EXIT, NOT_RUNNING, REMOVED
from boxwood.services.containers.logs import LogReader
from boxwood.services.containers.merge import merge
from boxwood.services.containers.network import has_key, key_path
from boxwood.services.containers.prune import prune
from boxwood.services.containers.reconcile import Reconciler
from boxwood.services.containers.remove import Remover
from boxwood.services.containers.start import Starter, publish_network
from boxwood.services.containers.stop import Stopper
from boxwood.services.containers.users import UserLookup
from boxwood_ext import program

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Coroutine,
        Iterable,
        Mapping,
    )

    from boxwood.model.config import ContainerConfig, EndpointSettings, PortBinding
    from boxwood.model.request import (
        AttachOptions,
        CreateRequest,
        ExecConfig,
        ExecStart,
        LogOptions,
        Upgrade,
    )
    from boxwood.services.containers.context import Context, NetworkInfo

log = logging.getLogger(__name__)

# The services have a method of the name ``list``.
_Texts = list[str]
_Containers = list[Container]
_Entries = list[dict[str, Any]]

T = TypeVar("T")

_OVERLAY_FOLDERS = {"lowerdir": "LowerDir", "upperdir": "UpperDir", "workdir": "WorkDir"}
"""Options of an overlay, and what Docker's records call them."""


class ContainersService:
    """Everything that can be done with containers.

    ``ref`` is an id, a name (with or without slash) or a unique prefix of an id. Every method may
    raise NotFound (``No such container: X``) and, for an ambiguous prefix, InvalidArgument. What
    changes a container goes on when the caller is cancelled: a client that goes away cancels only
    its own wait.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        users = UserLookup(context.workers)
        self._execs = Execs(context, users)
        self._exits = Exits(context, HealthMonitor(context, self._execs))
        self._starter = Starter(context, users, self._exits)
        self._archiver = Archiver(context, users)
        self._stopper = Stopper(context)
        self._remover = Remover(context, self._stopper)
        self._creator = Creator(context)
        self._logs = LogReader(context)
        self._attacher = Attacher(context, self._logs)
        self._connector = Connector(context)
        self._lister = Lister(context.store, context.images)
        self._exits.start = self._restart_locked
        self._exits.remove = self._auto_remove
        self._exits.network_event = lambda container, action: publish_network(
            context, container, action
        )
        self._reconciler = Reconciler(context, self._starter, self._exits)

    # -- reading: immutable snapshots, no lock --

    def get(self, ref: str) -> Container:
        """Return the newest version of a container."""
        return self._context.store.get(ref)

    def list(
        self,
        all: bool = False,
        limit: int = 0,
        size: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
    ) -> _Containers:
        """Return containers, the newest first. ``size`` is the caller's: see :meth:`sizes`."""
        del size
        return self._lister.list(all, limit, filters or {})

    def snapshots(self) -> dict[str, str]:
        """Return the keys of containers' snapshots and their ids, empty while one is made."""
        store = self._context.store
        keys = dict.fromkeys(store.reserved(), "")
        return keys | {entry.snapshot_key: entry.id for entry in store if entry.snapshot_key}

    def counts(self) -> dict[str, int]:
        """Return how many there are, run, are paused and are stopped, for ``info``."""
        entries = list(self._context.store)
        running = sum(entry.state.status == states.RUNNING for entry in entries)
        paused = sum(entry.state.status == states.PAUSED for entry in entries)
        return {
            "Containers": len(entries),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(entries) - running - paused,
        }

    def details(self, ref: str) -> dict[str, Any]:
        """Return what ``inspect`` shows beyond the record."""
        context = self._context
        container = self.get(ref)
        directory = context.data / container.id
        driver, source, options = context.log_of(container)
        spool = driver.spool(source, options)
        live = context.live.get(container.id)
        shown = container.state.running and has_key(container)
        return {
            "GraphDriver": self._layers_of(container),
            "ResolvConfPath": str(directory / "resolv.conf"),
            "HostnamePath": str(directory / "hostname"),
            "HostsPath": str(directory / "hosts"),
            "LogPath": str(spool.path) if spool else "",
            "ExecIDs": [key for key, entry in live.execs.items() if entry.running] if live else [],
            "SandboxID": container.id if has_key(container) else "",
            "SandboxKey": str(key_path(context, container)) if shown else "",
        }

    def _layers_of(self, container: Container) -> dict[str, str]:
        """Return the folders that an overlay is made of. It is mounted nowhere on the host."""
        try:
            mounts = self._context.layers.root_mounts(container.snapshot_key)
        except NotFound:
            return {}
        found: dict[str, list[str]] = {}
        for option in mounts[0].options if mounts and mounts[0].type == "overlay" else ():
            name, _, value = option.partition("=")
            found.setdefault(name.removesuffix("+"), []).append(value)
        return {
            shown: ":".join(found[name])
            for name, shown in _OVERLAY_FOLDERS.items()
            if name in found
        }

    async def sizes(self, ref: str) -> tuple[int, int]:
        """Return the bytes of the writable layer and of the whole root, counted by a worker."""
        container = self.get(ref)
        written = await self._context.layers.usage(container.snapshot_key)
        try:
            image = self._context.images.get(container.image_id).size
        except NotFound:
            image = 0
        return written, written + image

    def of_image(self, image_id: str) -> _Containers:
        """Return the containers that were made from an image."""
        return [entry for entry in self._context.store if entry.image_id == image_id]

    def of_volume(self, name: str) -> _Texts:
        """Return the ids of the containers that name a volume."""
        return [
            entry.id
            for entry in self._context.store
            if any(point.type == "volume" and point.name == name for point in entry.mounts)
        ]

    async def launch_program(self, ref: str) -> str:
        """Return the launch program of the present run, readably. Conflict if it does not run."""
        container = self.get(ref)
        path = self._context.run / container.id / PROGRAM_FILE
        try:
            return program.render(path.read_bytes())
        except FileNotFoundError as error:
            raise Conflict(f"container {container.id} is not running") from error

    # -- life --

    async def create(
        self, name: str | None, request: CreateRequest, platform: str = ""
    ) -> tuple[str, _Texts]:
        """Make a container.

        Returns:
            its id, and warnings.

        Raises:
            InvalidArgument, NotFound, AlreadyExists, Unsupported: in Docker's words.
        """
        return await self._whole(self._creator.create(name, request, platform))

    async def start(self, ref: str, detach_keys: str | None = None) -> None:
        """Start it; returns when its process runs.

        Raises:
            NotModified, Conflict, LaunchError: see :class:`~.start.Starter`.
        """
        del detach_keys  # those of the attach count
        await self._whole(self._starter.start(self.get(ref).id))

    async def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        """Stop it; ``timeout`` in seconds, negative: for ever, None: the container's own."""
        await self._whole(self._stopper.stop(self.get(ref).id, timeout, signal))

    async def restart(
        self, ref: str, timeout: int | None = None, signal: str | None = None
    ) -> None:
        """Stop it if it runs, and start it."""
        await self._whole(self._restart(self.get(ref).id, timeout, signal))

    async def _restart(self, key: str, timeout: int | None, signal: str | None) -> None:
        container = self._context.store.current(key)
        if container.state.running and container.host_config.auto_remove:
            # It comes back: its own end is not to remove it.
            kept = replace(container, host_config=replace(container.host_config, auto_remove=False))
            self._context.store.put(kept)
        try:
            if container.state.running or container.state.status == states.RESTARTING:
                await self._stopper.stop(key, timeout, signal)
            await self._starter.start(key)
        finally:
            if container.host_config.auto_remove and key in self._context.store:
                now = self._context.store.current(key)
                host = replace(now.host_config, auto_remove=True)
                self._context.store.put(replace(now, host_config=host))
        self._context.publish(self._context.store.current(key), "restart")

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal. Conflict if it does not run."""
        try:
            await self._whole(self._stopper.kill(self.get(ref).id, signal))
        except (Conflict, NotFound) as error:
            raise type(error)(f"cannot kill container: {ref}: {error}") from error

    async def pause(self, ref: str) -> None:
        """Freeze it."""
        await self._whole(self._stopper.pause(self.get(ref).id))

    async def unpause(self, ref: str) -> None:
        """Let it go on."""
        await self._whole(self._stopper.unpause(self.get(ref).id))

    async def remove(
        self, ref: str, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Remove it; ``force`` kills it first, ``volumes`` takes its anonymous volumes along."""
        if link:
            raise InvalidArgument("remove: links are not supported by this engine")
        key = self.get(ref).id
        await self._whole(self._remove(key, force, volumes))

    async def _remove(self, key: str, force: bool, volumes: bool) -> None:
        live = self._context.of(key)
        await self._remover.remove(key, force, volumes)
        self._execs.forget(live)

    async def prune(self, filters: Mapping[str, Iterable[str]]) -> tuple[_Texts, int]:
        """Remove what does not run; returns the ids and the bytes; see :mod:`.prune`."""
        return await prune(self._context.store, filters, self._written, self.remove)

    async def _written(self, key: str) -> int:
        return await self._context.layers.usage(self.get(key).snapshot_key)

    async def _auto_remove(self, key: str) -> None:
        await self._remove(key, False, True)

    async def _restart_locked(self, container: Container, live: Any) -> None:
        await self._starter.start_locked(container, live, restart=True)

    async def rename(self, ref: str, new: str) -> None:
        """Give it another name.

        Raises:
            InvalidArgument, AlreadyExists: in Docker's words.
        """
        key = self.get(ref).id
        if not new:
            raise InvalidArgument("Neither old nor new names may be empty")
        async with self._context.of(key).lock:
            store = self._context.store
            container = store.current(key)
            old = container.name
            if new.removeprefix("/") == old:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            try:
                wanted = names.check_name(new)
                store.reserve(wanted, key)
            except (AlreadyExists, Conflict, InvalidArgument) as error:
                raise type(error)(f"Error when allocating new name: {error}") from error
            try:
                store.put(replace(container, name=wanted))
            except BaseException:
                store.release(wanted, key)
                raise
            self._context.publish(store.current(key), "rename", {"oldName": f"/{old}"})
            await self._context.endpoints.renamed(store.current(key))

    # -- networks --

    async def connect(self, ref: str, network: NetworkInfo, asked: EndpointSettings) -> None:
        """Connect it to a network; see :class:`.connect.Connector`."""
        await self._whole(self._connector.connect(self.get(ref).id, network, asked))

    async def disconnect(self, ref: str, network: NetworkInfo, force: bool = False) -> None:
        """Disconnect it from a network; see :class:`.connect.Connector`."""
        await self._whole(self._connector.disconnect(self.get(ref).id, network, force))

    async def publish_ports(
        self,
        ref: str,
        add: Mapping[str, tuple[PortBinding, ...] | None],
        remove: tuple[str, ...],
    ) -> None:
        """Change what it publishes; see :class:`.connect.Connector`."""
        await self._whole(self._connector.publish(self.get(ref).id, add, remove))

    async def take_ports(self, ref: str, giver: str, ports: tuple[str, ...]) -> None:
        """Publish what another container does; see :class:`.connect.Connector`."""
        await self._whole(self._connector.take(self.get(ref).id, self.get(giver).id, ports))

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the size of its terminal, in characters. Conflict if it does not run."""
        container = self.get(ref)
        live = self._context.of(container.id)
        if not container.state.running or live.shim is None:
            raise Conflict(f"container {container.id} is not running")
        if container.config.tty:
            await live.shim.resize(None, height, width)
        self._context.publish(container, "resize", {"height": str(height), "width": str(width)})

    def wait(self, ref: str, condition: str = NOT_RUNNING) -> Awaitable[WaitResult]:
        """Return what resolves when the condition is met; registered before this returns.

        Args:
            condition: ``not-running`` (at once if it does not run), ``next-exit``, ``removed``.
        """
        condition = condition or NOT_RUNNING
        if condition not in (NOT_RUNNING, NEXT_EXIT, REMOVED):
            raise InvalidArgument(f'invalid condition: "{condition}"')
        container = self.get(ref)
        live = self._context.of(container.id)
        future = live.wait(condition)
        state = container.state
        if condition == NOT_RUNNING and not state.running and state.status != states.RESTARTING:
            live.resolve(WaitResult(state.exit_code, state.error), NOT_RUNNING)
        return future

    # -- streams --

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Return the log in pieces, framed unless the container has a terminal.

        Raises, at once:
            InvalidArgument, Unsupported: in Docker's words.
        """
        return self._logs.read(self.get(ref), options)

    async def attach(self, ref: str, options: AttachOptions, upgrade: Upgrade) -> None:
        """Hand a client over to the container's shim, or keep it until the start."""
        await self._attacher.attach(self.get(ref).id, options, upgrade)

    async def exec_create(self, ref: str, config: ExecConfig) -> str:
        """Take note of an exec; returns its id."""
        return self._execs.create(self.get(ref), config, ref).id

    async def exec_start(
        self, exec_id: str, options: ExecStart, upgrade: Upgrade | None = None
    ) -> None:
        """Start an exec; without ``upgrade`` nobody is attached."""
        await self._whole(self._execs.start(exec_id, options, upgrade))

    def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        """Return the API's object of an exec."""
        return self._execs.inspect(exec_id)

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal."""
        await self._execs.resize(exec_id, height, width)

    # -- files --

    async def changes(self, ref: str) -> _Entries:
        """Return what it has changed in its image's tree; see :mod:`.changes`."""
        return await changes(self._context.layers, self.get(ref))

    async def stat_path(self, ref: str, path: str) -> PathStat:
        """Look at a path in it; NotFound in Docker's words."""
        return await self._archiver.stat(self.get(ref), path, ref)

    def get_archive(self, ref: str, path: str) -> AsyncGenerator[PathStat | bytes, None]:
        """Yield the stat of a path in it, then a tar of it; see :class:`.archive.Archiver`."""
        return self._archiver.get(self.get(ref), path, ref)

    async def put_archive(
        self,
        ref: str,
        path: str,
        stream: AsyncIterator[bytes],
        *,
        keep_kinds: bool = False,
        chown: bool = False,
    ) -> None:
        """Unpack a tar into a directory of it; see :class:`.archive.Archiver`."""
        container = self.get(ref)
        await self._archiver.put(container, path, ref, stream, keep_kinds=keep_kinds, chown=chown)

    def export(self, ref: str) -> AsyncGenerator[bytes, None]:
        """Yield a tar of its whole tree, without volumes, and publish the event."""
        container = self.get(ref)
        pieces = self._archiver.export(container)
        self._context.publish(container, "export")
        return pieces

    def merged(self, wanted: ContainerConfig, container: Container) -> ContainerConfig:
        """Return a config over that of a container: what a commit gives its image."""
        return merge(wanted, container.config)

    @asynccontextmanager
    async def held_still(self, ref: str, *, pause: bool) -> AsyncIterator[None]:
        """``async with containers.held_still(ref, pause=True)``: paused meanwhile if it runs."""
        state = self.get(ref).state
        if not pause or not state.running or state.status == states.PAUSED:
            yield
            return
        await self.pause(ref)
        try:
            yield
        finally:
            await self.unpause(ref)

    def publish(self, ref: str, action: str, attributes: Mapping[str, str]) -> None:
        """Publish an event of a container, for what is more than the containers' own."""
        self._context.publish(self.get(ref), action, attributes)

    # -- the daemon --

    def reconfigure(self, stop_timeout: int) -> None:
        """Take over what a reload may change."""
        self._context.settings = msgspec.structs.replace(
            self._context.settings, stop_timeout=stop_timeout
        )

    def mounting(self, name: str) -> _Texts:
        """Return the ids of the containers that run, by their records, with a volume."""
        store = self._context.store
        return [key for key in self.of_volume(name) if store.current(key).state.running]

    def read(self) -> None:
        """Read the records."""
        self._context.store.load()

    async def load(self) -> _Texts:
        """Bring the records and what is there together; returns what was done."""
        return await self._reconciler.run()

    async def restore(self) -> None:
        """Start what its restart policy wants started, after :meth:`load`."""
        await self._reconciler.apply_policies()

    def pay(self) -> None:
        """Write the records that the disk had no room for when they were due."""
        self._context.store.pay()

    async def close(self, stop: bool, timeout: float) -> None:
        """The daemon ends: stop every container, or let go of the shims and leave them alone."""
        context = self._context
        if stop:
            await self._stopper.stop_all(timeout)
        context.closing = True
        for live in context.live.values():
            live.cancel_timers()
            live.drop_pending()
            if live.shim is not None:
                await live.shim.disconnect()
        pending = [task for task in context.tasks if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end whatever becomes of the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._context.tasks.add(task)
        task.add_done_callback(self._context.tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_log_failure)
            raise


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.info("a client went away and did not learn that: %s", task.exception())
