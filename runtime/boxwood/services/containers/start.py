"""Starting a container."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.isolation import Bundle
from boxwood.errors import (
    Conflict,
    InvalidArgument,
    LaunchError,
    NotFound,
    NotModified,
    ResourceExhausted,
)
from boxwood.execution import sandbox
from boxwood.execution.shim import ShimConfig
from boxwood.execution.spec import SandboxInfo, build_spec
from boxwood.execution.task import SPEC_FILE
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model import times
from boxwood.model.request import WaitResult
from boxwood.model.wire import replace
from boxwood.services.containers import failures
from boxwood.services.containers.live import NEXT_EXIT, NOT_RUNNING
from boxwood.services.containers.mountplan import MountedVolumes
from boxwood.services.containers.network import (
    Joining,
    identity_of,
    make_key,
    namespace_of,
    relink,
    shares,
)

if TYPE_CHECKING:
    from boxwood.execution.spec import ResolvedUser, SpecMount
    from boxwood.execution.task import Task
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.exits import Exits
    from boxwood.services.containers.live import Live
    from boxwood.services.containers.users import UserLookup

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Starter:
    """``start``: everything from the record to a running process, undone when it fails."""

    def __init__(self, context: Context, users: UserLookup, exits: Exits) -> None:
        self._context = context
        self._users = users
        self._exits = exits

    async def start(self, key: str) -> None:
        """Start a container by id.

        Raises:
            NotModified: it runs.
            Conflict: paused, being removed.
            LaunchError: in Docker's words.
        """
        live = self._context.of(key)
        if not self._context.store.current(key).state.running:
            await live.freed.wait()
        # In this order: a client that writes into its tree holds up a start, never a removal.
        async with live.tree, live.lock:
            container = self._context.store.current(key)
            check_startable(container, live)
            if live.restart is not None:
                live.cancel_timers()
                live.back_off = 0.0
            await self.start_locked(container, live)

    async def start_locked(self, container: Container, live: Live, restart: bool = False) -> None:
        """Start it; the caller holds both locks. ``restart``: by its policy."""
        fault("start.begun")
        container = self._settled(container)
        try:
            container, task = await self._run(container, live)
        except OSError as error:
            failure = ResourceExhausted(
                f"start container: {error.filename or container.id}: {error.strerror}"
            )
            await self._failed(container, live, failure)
            raise failure from error
        except BaseException as error:
            await self._failed(container, live, error)
            if isinstance(error, LaunchError):
                text, _ = failures.start_failure(error)
                raise LaunchError(text, error.operation, error.target, error.errno) from error
            raise
        fault("start.launched")
        self._record(container, live, task, restart)
        fault("start.recorded")

    def _settled(self, container: Container) -> Container:
        """Return one that has never run in the networks that bear the names it was made for.

        As in Docker: until its first start a name counts; then the network, which may be gone.
        """
        if container.state.has_started:
            return container
        networks = {}
        for name, at in container.networks.items():
            with contextlib.suppress(NotFound):  # the start itself says so
                network, _ = self._context.networks.resolve(name)
                networks[name] = replace(at, network_id=network.id if network else "")
        return replace(container, networks={**container.networks, **networks})

    async def _run(self, container: Container, live: Live) -> tuple[Container, Task]:
        """Return the container as it has joined its networks, and its task."""
        network = Joining(self._context, container)
        try:
            return await self._make(container, live, network)
        except BaseException:
            await network.undo()
            raise
        finally:
            network.close()

    async def _make(
        self, container: Container, live: Live, network: Joining
    ) -> tuple[Container, Task]:
        context = self._context
        volumes = MountedVolumes(context, container)
        try:
            # That of an earlier run must not be taken for this one's.
            (context.data / container.id / "exit").unlink(missing_ok=True)
            mounts = await volumes.prepare()
            fault("start.volumes")
            root = await context.layers.open_root(
                container.snapshot_key, volatile=container.host_config.auto_remove
            )
            try:
                fault("start.root")
                user = await self._users.of(container, root)
                await self._fill(volumes, live, root)
                await network.done()
                container = replace(container, sandbox=network.state)
                info = self._sandbox(container, network)
                fault("start.files")
                return container, await self._launch(container, live, root, user, info, mounts)
            finally:
                # The shim has its own by now. Ours goes at once: the last one to close it pays
                # for the unmount, and that is not to be the daemon.
                os.close(root)
        except BaseException:
            await volumes.undo()
            raise

    async def _launch(
        self,
        container: Container,
        live: Live,
        root: int,
        user: ResolvedUser,
        info: SandboxInfo,
        mounts: list[SpecMount],
    ) -> Task:
        context = self._context
        driver = context.isolation(container.isolation_driver)
        spec = build_spec(
            container,
            user=user,
            daemon=context.settings.spec_defaults,
            sandbox=info,
            mounts=mounts,
        )
        context.adjust(spec, container)
        encoded = _encode(spec)
        bundle = Bundle(
            id=container.id, directory=context.run / container.id, spec=spec, root_fd=root
        )
        task = await context.launcher.launch(
            driver, bundle, self._shim_config(container), live.pending, {SPEC_FILE: encoded}
        )
        live.pending = []
        return task

    async def _fill(self, volumes: MountedVolumes, live: Live, root: int) -> None:
        """Fill the volumes, unless somebody who wants the container stopped cancels just that."""
        if not volumes.mounted:
            return
        live.filling = asyncio.ensure_future(volumes.seed(root))
        try:
            await asyncio.wait([live.filling])
            if live.filling.cancelled():
                names = ", ".join(str(path) for path in volumes.mounted.values())
                raise Conflict(f"start: {live.id[:12]}: interrupted while it filled {names}")
            live.filling.result()
        finally:
            live.filling.cancel()
            live.filling = None

    def _shim_config(self, container: Container) -> ShimConfig:
        context = self._context
        config = container.config
        driver, source, options = context.log_of(container)
        spool = driver.spool(source, options)
        size = container.host_config.console_size
        return ShimConfig(
            id=container.id,
            directory=context.run / container.id,
            exit_file=context.data / container.id / "exit",
            log_path=spool.path if spool else None,
            log_attributes=spool.attributes if spool else {},
            log_max_size=spool.max_size if spool else 0,
            log_max_files=spool.max_files if spool else 1,
            tty=config.tty,
            open_stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            size=size if config.tty and size and all(size) else None,
            # What does not outlive its end needs no status that outlives a power cut.
            durable=not container.host_config.auto_remove,
        )

    def _sandbox(self, container: Container, network: Joining) -> SandboxInfo:
        """Write the files of the container's sandbox, find the namespaces that it joins."""
        context = self._context
        host, config = container.host_config, container.config
        joined: dict[str, str] = {}
        shm = ""
        namespace = namespace_of(context, container)
        directory = context.data / container.id
        if shares(namespace):
            target = self._target(namespace.container, "network")
            joined |= sandbox.namespaces_of(target.state.pid, ["network"])
            directory = context.data / target.id
        else:
            sandbox.write_files(directory, identity_of(context, container))
            if network.path:
                joined["network"] = network.path
        if host.ipc_mode.startswith("container:"):
            target = self._target(host.ipc_mode.partition(":")[2], "ipc")
            joined |= sandbox.namespaces_of(target.state.pid, ["ipc"])
            shm = f"/proc/{target.state.pid}/root/dev/shm"
        if host.pid_mode.startswith("container:"):
            target = self._target(host.pid_mode.partition(":")[2], "pid")
            joined |= sandbox.namespaces_of(target.state.pid, ["pid"])
        if shares(namespace) and host.uts_mode != "host":
            log.debug("start %s: own UTS namespace, host name of the joined container",
                      config.hostname)  # fmt: skip
        return SandboxInfo(
            namespaces=joined,
            shm=shm,
            hosts=str(directory / sandbox.HOSTS),
            resolv_conf=str(directory / sandbox.RESOLV_CONF),
            hostname_file=str(directory / sandbox.HOSTNAME),
        )

    def _target(self, ref: str, what: str) -> Container:
        """Return a running container whose namespace is to be joined."""
        target = self._context.store.get(ref)
        if target.state.status == states.RESTARTING:
            raise Conflict(f"Container {ref} is restarting, wait until the container is running")
        if not target.state.running:
            raise Conflict(f"cannot join {what} namespace of a non running container: {target.id}")
        if what == "ipc" and target.host_config.ipc_mode in ("none", "private"):
            raise InvalidArgument(
                f"container {target.id}: non-shareable IPC (hint: use IpcMode:shareable for the "
                "donor container)"
            )
        return target

    def _record(self, container: Container, live: Live, task: Task, restart: bool) -> None:
        context = self._context
        live.shim, live.handle = task.shim, task.handle
        live.ended.clear()
        live.freed.clear()
        before = container.state
        state = states.State(
            status=states.RUNNING,
            pid=task.handle.pid,
            started_at=task.started_at,
            finished_at=before.finished_at,
            restart_count=before.restart_count if restart else 0,
            has_started=True,
            health=self._exits.fresh_health(container),
        )
        running = replace(container, state=state)
        make_key(context, running)
        relink(context, running)
        context.store.keep(running)
        self._exits.watch(running, live)
        self.publish_network(running, "connect")
        context.publish(running, "start")
        self._exits.start_health(running, live)

    def publish_network(self, container: Container, action: str) -> None:
        """Say that the container's network was connected or disconnected."""
        publish_network(self._context, container, action)

    async def _failed(self, container: Container, live: Live, error: BaseException) -> None:
        """Store why it failed and its exit code, tell the waiters, close what was attached."""
        context = self._context
        text, code = failures.start_failure(error)
        live.drop_pending()
        if container.id not in context.store:
            return
        state = replace(
            context.store.current(container.id).state,
            status=states.EXITED if container.state.has_started else states.CREATED,
            pid=0,
            exit_code=code,
            error=text,
            finished_at=times.now() if container.state.has_started else 0,
        )
        failed = replace(container, state=state)
        context.store.keep(failed)
        # Why it failed stands in the answer to the start and in the record.
        result = WaitResult(code)
        live.last = result
        live.resolve(result, NEXT_EXIT, NOT_RUNNING)
        if container.host_config.auto_remove:
            self._exits.remove_soon(container.id)


def check_startable(container: Container, live: Live) -> None:
    """Raise what stands against a start."""
    status = container.state.status
    if status == states.PAUSED:
        raise Conflict("cannot start a paused container, try unpause instead")
    if status == states.RUNNING:
        raise NotModified(f"start: {container.id[:12]}: it runs already")
    if live.removing or status in (states.REMOVING, states.DEAD):
        raise Conflict("container is marked for removal and cannot be started")


def publish_network(context: Context, container: Container, action: str, only: str = "") -> None:
    """Publish ``connect`` or ``disconnect`` for each network of the container, or one."""
    for name, endpoint in container.networks.items():
        if only not in ("", name):
            continue
        network, _ = context.networks.resolve(name)
        context.events.publish(
            "network",
            action,
            endpoint.network_id,
            {
                "container": container.id,
                "name": name,
                "type": network.driver if network is not None else name,
            },
        )
