"""Stopping, killing, pausing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from boxwood.errors import BoxwoodError, Conflict, DeadlineExceeded, Internal, NotFound, NotModified
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model.signals import SIGKILL, SIGTERM, parse_signal
from boxwood.model.wire import replace

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.live import Live

log = logging.getLogger(__name__)

KILL_GRACE = 3.0
"""Seconds that a process may take to go after SIGKILL before its control group is thawed and all
in it killed."""
LAUNCH_GRACE = 3.0
"""Seconds that a start may go on once its container is to be stopped: it may hang for ever."""
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
        await self.end_start(key, live)
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

    async def end_start(self, key: str, live: Live) -> None:
        """End a start that is under way and hangs; it fails, and says in what it hung."""
        if live.filling is not None:
            done, _ = await asyncio.wait([live.filling], timeout=LAUNCH_GRACE)
            if not done and live.filling is not None:
                live.filling.cancel()
        await self._context.launcher.interrupt(key, LAUNCH_GRACE)

    async def _force(self, key: str, live: Live, freed: asyncio.Event) -> None:
        async with live.lock:
            if freed.is_set():
                return
            container = self._context.store.current(key)
            await self._deliver(container, live, SIGKILL, stopping=True)
        await self._see_it_go(container, live, freed)

    async def _see_it_go(self, container: Container, live: Live, freed: asyncio.Event) -> None:
        """Wait for the end of what was killed, and do more about it when it does not come.

        Raises:
            DeadlineExceeded: even that did not help; says which process waits for what.
        """
        if await _within(freed, KILL_GRACE):
            return
        hangs = ""
        handle = live.handle
        if handle is not None:
            driver = self._context.isolation(container.isolation_driver)
            try:
                await driver.delete(handle)
            except DeadlineExceeded as error:
                hangs = f" ({error}: {_waiting(driver.processes(handle))})"
        if not await _within(freed, FORCE_GRACE if not hangs else 0.0):
            raise DeadlineExceeded(
                f"cannot stop container: {container.id}: tried to kill container, but did not "
                f"receive an exit event{hangs}"
            )

    async def kill(self, key: str, signal: str) -> None:
        """Send a signal.

        Raises:
            Conflict: it does not run, in Docker's words.
        """
        number = parse_signal(signal)
        live = self._context.of(key)
        if number in (SIGKILL, SIGTERM):
            await self.end_start(key, live)
        async with live.lock:
            container = self._context.store.current(key)
            if self._cancel_restart(container, live):
                return
            if not container.state.running:
                raise Conflict(f"container {key} is not running")
            stop_signal = parse_signal(container.config.stop_signal or "SIGTERM")
            stopping = number in (SIGKILL, SIGTERM, stop_signal)
            await self._deliver(container, live, number, stopping=stopping)
            container = self._context.store.current(key)
            # As in Docker: unless it has a stop signal of its own, any signal thaws it.
            if container.state.status == states.PAUSED and not container.config.stop_signal:
                await self._resume(container, live)
            fault("kill.signalled")
            freed = live.freed
        if number == SIGKILL:
            await self._see_it_go(container, live, freed)

    def _cancel_restart(self, container: Container, live: Live) -> bool:
        """End the waiting for a restart; whether there was one."""
        if container.state.status != states.RESTARTING:
            return False
        live.cancel_timers()
        state = replace(container.state, status=states.EXITED, manually_stopped=True)
        self._context.store.keep(replace(container, state=state))
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
        if stopping and not container.state.manually_stopped and not context.stopping:
            container = replace(container, state=replace(container.state, manually_stopped=True))
            context.store.keep(container)
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
                raise Conflict(f"container {key} is not running")
            await self._context.isolation(container.isolation_driver).pause(live.handle)
            state = replace(container.state, status=states.PAUSED)
            container = replace(container, state=state)
            self._context.store.keep(container)
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
        self._context.store.keep(container)
        self._context.publish(container, "unpause")

    async def stop_all(self, timeout: float) -> None:
        """Stop every container at once (the daemon ends without live restore).

        It is not taken for a client's wish: what is restarted unless it was stopped comes back.
        """
        self._context.stopping = True
        for live in list(self._context.live.values()):
            live.cancel_timers()
        running = [entry.id for entry in self._context.store if entry.state.running]

        async def stop_one(key: str) -> None:
            try:
                await self.stop(key, int(timeout), None)
            except BoxwoodError as error:
                log.error("stop %s: %s", key[:12], error)

        await asyncio.gather(*(stop_one(key) for key in running))


def _waiting(pids: list[int]) -> str:
    """Name the processes that not even SIGKILL ends, and what in the kernel they wait in."""
    found = []
    for pid in pids:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            place = Path(f"/proc/{pid}/wchan").read_text().strip("0\n")
        except OSError:
            continue
        found.append(f"process {pid} ({name}) waits in {place or 'the kernel'}")
    return ", ".join(found) or "no process is left"


async def _within(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
