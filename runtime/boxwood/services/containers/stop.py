"""Stopping, killing, pausing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from boxwood.errors import BoxwoodError, Conflict, DeadlineExceeded, Internal, NotFound, NotModified
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model.wire import replace
from boxwood.services.containers.signals import SIGKILL, SIGTERM, parse_signal

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.live import Live

log = logging.getLogger(__name__)

KILL_GRACE = 10.0
"""Seconds that a process may take to go after SIGKILL before the control group is killed."""
FORCE_GRACE = 10.0
"""Seconds for that; after it the stop fails and says so."""


class Stopper:
    """Signals to containers, and what they mean for their state."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def stop(self, key: str, timeout: int | None, signal: str | None) -> None:
        """Signal, wait, kill, wait. It goes on if the client goes away.

        Args:
            timeout: seconds; negative: for ever; None: the container's own or the daemon's.
            signal: instead of the container's stop signal.

        Raises:
            NotModified: it does not run. DeadlineExceeded: it cannot be killed.
        """
        context = self._context
        container = context.store.current(key)
        number = parse_signal(signal or container.config.stop_signal or "SIGTERM")
        if timeout is None:
            own = container.config.stop_timeout
            timeout = own if own is not None else context.settings.stop_timeout
        live = context.of(key)
        fault("stop.begun")
        async with live.lock:
            container = context.store.current(key)
            if self._cancel_restart(container, live):
                return
            if not container.state.running:
                raise NotModified(f"stop: {key[:12]}: it does not run")
            freed = live.freed
            await self._deliver(container, live, number, stopping=True)
        fault("stop.signalled")
        if not await _within(freed, None if timeout < 0 else float(timeout)):
            await self._force(key, live, freed)
        # the same container, whatever its name is by now
        if key in context.store:
            context.publish(context.store.current(key), "stop")
        elif not container.host_config.auto_remove:
            raise NotFound(f"No such container: {key}")
        else:
            context.publish(container, "stop")

    async def _force(self, key: str, live: Live, freed: asyncio.Event) -> None:
        async with live.lock:
            if freed.is_set():
                return
            container = self._context.store.current(key)
            await self._deliver(container, live, SIGKILL, stopping=True)
        if await _within(freed, KILL_GRACE):
            return
        handle = live.handle
        if handle is not None:
            await self._context.isolation(container.isolation_driver).delete(handle)
        if not await _within(freed, FORCE_GRACE):
            raise DeadlineExceeded(
                f"cannot stop container: {key}: tried to kill container, but did not receive an "
                "exit event"
            )

    async def kill(self, key: str, signal: str) -> None:
        """Send a signal.

        Raises:
            Conflict: it does not run, in Docker's words.
        """
        number = parse_signal(signal)
        live = self._context.of(key)
        async with live.lock:
            container = self._context.store.current(key)
            if self._cancel_restart(container, live):
                return
            if not container.state.running:
                raise Conflict(f"cannot kill container: {key}: container {key} is not running")
            stop_signal = parse_signal(container.config.stop_signal or "SIGTERM")
            await self._deliver(
                container, live, number, stopping=number in (SIGKILL, SIGTERM, stop_signal)
            )
            fault("kill.signalled")
            freed = live.freed
        if number == SIGKILL:
            await _within(freed, KILL_GRACE)

    def _cancel_restart(self, container: Container, live: Live) -> bool:
        """End the waiting for a restart; whether there was one."""
        if container.state.status != states.RESTARTING:
            return False
        live.cancel_timers()
        state = replace(container.state, status=states.EXITED, manually_stopped=True)
        self._context.store.put(replace(container, state=state))
        if live.last is not None:
            live.resolve(live.last, "not-running", "next-exit")
        return True

    async def _deliver(
        self, container: Container, live: Live, number: int, *, stopping: bool
    ) -> None:
        """Send the signal; one that ends a container is remembered as a client's wish."""
        context = self._context
        shim = live.shim
        if shim is None:
            raise Internal(f"signal: container {container.id[:12]}: it has no shim")
        if stopping and not container.state.manually_stopped:
            container = replace(container, state=replace(container.state, manually_stopped=True))
            context.store.put(container)
        try:
            await shim.signal(number)
        except (NotFound, Conflict):
            log.debug("signal %d: container %s: it is gone already", number, container.id[:12])
        context.publish(container, "kill", {"signal": str(number)})
        if stopping and container.state.status == states.PAUSED:
            await self._resume(container, live)

    async def pause(self, key: str) -> None:
        """Freeze it. Conflict unless it runs."""
        live = self._context.of(key)
        async with live.lock:
            container = self._context.store.current(key)
            if container.state.status == states.PAUSED:
                raise Conflict(f"Container {key} is already paused")
            if container.state.status == states.RESTARTING:
                raise Conflict(
                    f"Container {key} is restarting, wait until the container is running"
                )
            if not container.state.running or live.handle is None:
                raise Conflict(f"Container {key} is not running")
            await self._context.isolation(container.isolation_driver).pause(live.handle)
            state = replace(container.state, status=states.PAUSED)
            container = replace(container, state=state)
            self._context.store.put(container)
            self._context.publish(container, "pause")

    async def unpause(self, key: str) -> None:
        """Let it go on. Conflict unless it is paused."""
        live = self._context.of(key)
        async with live.lock:
            container = self._context.store.current(key)
            if container.state.status != states.PAUSED:
                raise Conflict(f"Container {key} is not paused")
            await self._resume(container, live)

    async def _resume(self, container: Container, live: Live) -> None:
        if live.handle is None:
            raise Internal(f"unpause: container {container.id[:12]}: it has no task")
        await self._context.isolation(container.isolation_driver).resume(live.handle)
        container = replace(container, state=replace(container.state, status=states.RUNNING))
        self._context.store.put(container)
        self._context.publish(container, "unpause")

    async def stop_all(self, timeout: float) -> None:
        """Stop every container at once (the daemon ends without live restore)."""
        running = [entry.id for entry in self._context.store if entry.state.running]

        async def stop_one(key: str) -> None:
            try:
                await self.stop(key, int(timeout), None)
            except BoxwoodError as error:
                log.error("stop %s: %s", key[:12], error)

        await asyncio.gather(*(stop_one(key) for key in running))


async def _within(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
