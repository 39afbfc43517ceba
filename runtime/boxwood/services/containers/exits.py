"""The end of a run: recorded, cleaned up, told; then restarted or removed as the policy says."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from boxwood.drivers.isolation import TaskHandle
from boxwood.errors import BoxwoodError, Conflict, NotFound
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model import times
from boxwood.model.endpoint import SandboxState
from boxwood.model.request import WaitResult
from boxwood.model.wire import replace
from boxwood.services.containers.health import HealthMonitor, has_probe
from boxwood.services.containers.live import NEXT_EXIT, NOT_RUNNING
from boxwood.services.containers.network import leave

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from boxwood.execution.shim import ExitStatus
    from boxwood.model.container import Container, Health
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.live import Live

log = logging.getLogger(__name__)

FIRST_DELAY = 0.1
"""Seconds before the first restart; it doubles with each that follows."""
LONGEST_DELAY = 60.0
RESET_AFTER = 10.0
"""Seconds of running after which the delay begins anew."""
LOST = 255
"""Exit code of a container whose shim died: nobody knows the true one."""


class Exits:
    """Watches the shims. The service sets ``start`` and ``remove``, which need this class."""

    def __init__(self, context: Context, health: HealthMonitor) -> None:
        self._context = context
        self._health = health
        self.start: Callable[[Container, Live], Awaitable[None]]
        self.remove: Callable[[str], Awaitable[None]]
        self.network_event: Callable[[Container, str], None]

    def fresh_health(self, container: Container) -> Health | None:
        """Return the state of health at a start."""
        return states.Health() if has_probe(container.config) else None

    def start_health(self, container: Container, live: Live) -> None:
        """Begin to probe."""
        if has_probe(container.config):
            live.health = self._context.spawn(
                self._health.watch(container.id), f"health {container.id[:12]}"
            )

    def watch(self, container: Container, live: Live) -> None:
        """Deal with the end of this run whenever it comes."""
        assert live.shim is not None
        future = live.shim.wait()

        def ended(done: asyncio.Future[ExitStatus]) -> None:
            if done.cancelled() or self._context.closing:
                return
            live.exit_task = self._context.spawn(
                self._exited(container.id, done), f"exit {container.id[:12]}"
            )

        future.add_done_callback(ended)
        live.shim.on_detach = lambda task: self._detached(container.id, task)

    def _detached(self, key: str, task: str) -> None:
        """Say that a client left by its detach keys."""
        if key not in self._context.store:
            return
        container = self._context.store.current(key)
        if task:
            self._context.publish(container, "exec_detach", {"execID": task})
        else:
            self._context.publish(container, "detach")

    async def _exited(self, key: str, done: asyncio.Future[ExitStatus]) -> None:
        if key not in self._context.store:
            return
        live = self._context.of(key)
        async with live.lock:
            if key not in self._context.store:
                return
            container = self._context.store.current(key)
            if done.exception() is not None:
                log.error("container %s: its shim is lost: %s", key[:12], done.exception())
                await self.settle(container, live, LOST, times.now(), False, str(done.exception()))
            else:
                status = done.result()
                await self.settle(
                    container,
                    live,
                    status.code,
                    status.finished_at or times.now(),
                    status.oom,
                    "",
                )

    async def settle(
        self,
        container: Container,
        live: Live,
        code: int,
        finished_at: int,
        oom: bool,
        error: str,
    ) -> None:
        """Bring a run to its end; the caller holds the lock."""
        fault("exit.seen")
        context = self._context
        if live.health is not None:
            live.health.cancel()
            live.health = None
        oom = oom or self._oom(container, live)
        await self._clean(container, live)
        fault("exit.cleaned")
        before = container.state
        ran = (finished_at - before.started_at) / times.SECOND
        restart = not error and self._wants_restart(container, code)
        state = replace(
            before,
            status=states.RESTARTING if restart else states.EXITED,
            pid=0,
            exit_code=code,
            error=error,
            oom_killed=oom,
            finished_at=finished_at,
            health=replace(before.health, status="unhealthy") if before.health else None,
        )
        ended = replace(container, state=state, sandbox=SandboxState())
        context.store.keep(ended)  # the exit file has it too, for the next daemon
        fault("exit.recorded")
        if oom:
            context.publish(ended, "oom")
        context.publish(
            ended, "die", {"exitCode": str(code), "execDuration": str(max(0, int(ran)))}
        )
        self.network_event(ended, "disconnect")
        live.last = WaitResult(code, error)
        live.ended.set()
        if restart:
            self.schedule(ended, live, ran)
            live.resolve(live.last, NEXT_EXIT)
        else:
            live.resolve(live.last, NEXT_EXIT, NOT_RUNNING)
        live.freed.set()
        if ended.host_config.auto_remove and not restart:
            self.remove_soon(container.id)

    def _oom(self, container: Container, live: Live) -> bool:
        if live.handle is None:
            return False
        try:
            return self._context.isolation(container.isolation_driver).oom_killed(live.handle)
        except BoxwoodError as error:
            log.warning("exit %s: memory events: %s", container.id[:12], error)
            return False

    async def _clean(self, container: Container, live: Live) -> None:
        context = self._context
        for entry in live.execs.values():
            if entry.running:
                entry.running, entry.exit_code = False, entry.exit_code or 137
                entry.done.set()
        driver = context.isolation(container.isolation_driver)
        handle = live.handle or TaskHandle(id=container.id)
        await asyncio.gather(
            context.launcher.unmake(driver, handle, live.shim, context.run / container.id),
            leave(context, container),
        )
        live.shim = live.handle = None
        for point in container.mounts:
            if point.type == "volume":
                try:
                    await context.volumes.unmount(point.name, container.id)
                except BoxwoodError as error:
                    log.error("exit %s: unmount volume: %s", container.id[:12], error)

    def _wants_restart(self, container: Container, code: int) -> bool:
        if container.state.manually_stopped or self._context.stopping or self._context.closing:
            return False
        policy = container.host_config.restart_policy
        match policy.name:
            case "always" | "unless-stopped":
                return True
            case "on-failure":
                limit = policy.maximum_retry_count
                return code != 0 and (not limit or container.state.restart_count < limit)
            case _:
                return False

    def schedule(self, container: Container, live: Live, ran: float) -> None:
        """Restart it after the delay that is due; ``ran``: seconds of its last run."""
        if ran >= RESET_AFTER or live.back_off == 0.0:
            live.back_off = FIRST_DELAY
        else:
            live.back_off = min(live.back_off * 2, LONGEST_DELAY)
        live.restart = self._context.spawn(
            self._restart(container.id, live.back_off), f"restart {container.id[:12]}"
        )

    async def _restart(self, key: str, delay: float) -> None:
        await asyncio.sleep(delay)
        context = self._context
        live = context.of(key)
        async with live.tree, live.lock:
            if key not in context.store or context.closing:
                return
            container = context.store.current(key)
            if container.state.status != states.RESTARTING or live.removing:
                return
            live.restart = None
            count = container.state.restart_count + 1
            container = replace(container, state=replace(container.state, restart_count=count))
            try:
                await self.start(container, live)
            except BoxwoodError as error:
                log.error("restart %s: %s", key[:12], error)

    def remove_soon(self, key: str) -> None:
        """Remove an ``AutoRemove`` container in a task of its own."""
        self._context.spawn(self._remove(key), f"remove {key[:12]}")

    async def _remove(self, key: str) -> None:
        try:
            await self.remove(key)
        except (Conflict, NotFound):
            log.debug("remove %s: a client was quicker", key[:12])
        except BoxwoodError as error:
            log.error("remove %s: %s; the next start of the daemon tries again", key[:12], error)
