"""Record and reality brought together when the daemon starts, in both directions.

What was acknowledged is found again; what was begun and not acknowledged is undone. Every step
can be repeated: a daemon killed in the middle of it leaves the rest to the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.isolation import TaskHandle
from boxwood.errors import BoxwoodError
from boxwood.execution.shim import Shim, read_exit_file
from boxwood.execution.task import SPEC_FILE, remove_directory
from boxwood.model import container as states
from boxwood.model import ids, times
from boxwood.model.request import WaitResult
from boxwood.model.wire import replace
from boxwood.services.containers.exits import LOST
from boxwood.services.containers.network import make_key, view_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boxwood.drivers.isolation import IsolationDriver
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.exits import Exits
    from boxwood.services.containers.live import Live
    from boxwood.services.containers.start import Starter

log = logging.getLogger(__name__)

_RESTARTED = frozenset({"always", "unless-stopped", "on-failure"})
ORPHAN_GRACE = 5.0
"""Seconds for a killed orphan to be reaped by its shim."""
_LOST_TEXT = "its shim is gone and left no exit status"


class Reconciler:
    """Runs once, before the first request."""

    def __init__(self, context: Context, starter: Starter, exits: Exits) -> None:
        self._context = context
        self._starter = starter
        self._exits = exits
        self._done: list[str] = []

    async def run(self) -> list[str]:
        """Adopt what runs, settle what has ended, remove what nobody owns.

        Returns:
            one sentence for each thing done.
        """
        context = self._context
        for container in context.store:
            context.endpoints.claim(container)
        for container in context.store:
            if container.state.running:
                try:
                    await self._take_up(container)
                except BoxwoodError as error:
                    log.error("container %s: take up: %s", ids.short(container.id), error)
            elif container.state.status == states.RESTARTING:
                self._resume_restart(container)
        await self._remove_orphan_tasks()
        self._remove_orphan_directories()
        await self._restore_networks()
        keys = {container.snapshot_key for container in context.store}
        self._done += await context.layers.reconcile(keys)
        self._finish_removals()
        return self._done

    def _say(self, container: str, what: str) -> None:
        self._done.append(f"container {ids.short(container)}: {what}")

    async def _take_up(self, container: Container) -> None:
        context = self._context
        live = context.of(container.id)
        directory = context.run / container.id
        async with live.lock:
            shim = await self._adopt(container.id)
            live.handle = TaskHandle(
                id=container.id, pid=container.state.pid, spec=_read_spec(directory)
            )
            if shim is None:
                await self._settle_lost(container, live)
                return
            live.shim = shim
            live.ended.clear()
            live.freed.clear()
            context.isolation(container.isolation_driver).adopt(live.handle)
            self._exits.watch(container, live)
            self._exits.start_health(container, live)
            self._say(container.id, f"taken up again, process {container.state.pid}")

    async def _adopt(self, key: str) -> Shim | None:
        try:
            return await Shim.adopt(self._context.run / key)
        except BoxwoodError as error:
            log.error("adopt: %s: %s", key, error)
            return None

    async def _settle_lost(self, container: Container, live: Live) -> None:
        """It ended while no daemon was there, or its shim was killed."""
        found = read_exit_file(self._context.data / container.id / "exit")
        if found is not None:
            await self._exits.settle(container, live, found.code, found.finished_at, False, "")
            self._say(container.id, f"had ended with status {found.code} meanwhile")
        else:
            await self._exits.settle(container, live, LOST, times.now(), False, _LOST_TEXT)
            self._say(container.id, _LOST_TEXT)

    def _resume_restart(self, container: Container) -> None:
        live = self._context.of(container.id)
        state = container.state
        live.last = WaitResult(state.exit_code, state.error)
        self._exits.schedule(container, live, 0.0)
        self._say(container.id, "its restart is due")

    async def _remove_orphan_tasks(self) -> None:
        """Kill and remove tasks whose start was never acknowledged, or whose container is gone."""
        context = self._context
        wanted = {entry.id for entry in context.store if entry.state.running}
        found = {path.name: path for path in _directories(context.run)}
        for driver in self._drivers():
            for key in driver.walk():
                if key not in wanted and key not in found:
                    await self._delete(driver, key)
                    self._say(key, "removed control groups of a container that does not run")
        for key, path in found.items():
            if key in wanted:
                continue
            shim = await self._adopt(key)
            for driver in self._drivers():
                await self._delete(driver, key)
            if shim is not None:
                await _ended(shim)
                await shim.close()
            remove_directory(path)
            if key in context.store:
                (context.data / key / "exit").unlink(missing_ok=True)
            self._say(key, "removed a task whose start was never acknowledged")

    async def _delete(self, driver: IsolationDriver, key: str) -> None:
        """Remove a task; what does not go is said, and no reason not to start."""
        try:
            await driver.delete(TaskHandle(id=key))
        except BoxwoodError as error:
            log.error("container %s: delete: %s", ids.short(key), error)

    def _drivers(self) -> Iterator[IsolationDriver]:
        context = self._context
        names = {entry.isolation_driver for entry in context.store}
        names.add(context.settings.runtime)
        for name in sorted(names):
            try:
                yield context.isolation(context.settings.runtimes.get(name, name))
            except BoxwoodError as error:
                log.error("isolation driver %s: %s", name, error)

    def _remove_orphan_directories(self) -> None:
        for path in _directories(self._context.data):
            if path.name not in self._context.store:
                self._context.trash.discard(path)
                self._say(path.name, "removed a directory without a record")
        self._context.trash.empty()
        for container in self._context.store:
            os.makedirs(self._context.data / container.id, mode=0o710, exist_ok=True)

    async def _restore_networks(self) -> None:
        """Restore what running containers have of their networks, remove what nobody has."""
        context = self._context
        async with AsyncExitStack() as held:
            # One that ends just now has left its networks before its record says so.
            for container in context.store:
                if container.state.running:
                    await held.enter_async_context(context.of(container.id).lock)
            await self._restore_running(
                [container for container in context.store if container.state.running]
            )

    async def _restore_running(self, running: list[Container]) -> None:
        context = self._context
        for path in context.keys.iterdir():
            if path.name not in {ids.short(container.id) for container in running}:
                path.unlink(missing_ok=True)
        views = {}
        for container in running:
            make_key(context, container)
            view = view_of(context, container)
            if view is not None:
                views[container.id] = view
        self._done += await context.endpoints.reconcile(running, views)

    def _finish_removals(self) -> None:
        for container in self._context.store:
            state = container.state
            over = state.status in (states.EXITED, states.CREATED) and not state.running
            begun = state.status in (states.REMOVING, states.DEAD)
            if begun or (over and state.has_started and container.host_config.auto_remove):
                if begun:
                    ended = replace(container, state=replace(state, status=states.EXITED))
                    self._context.store.show(ended)
                self._exits.remove_soon(container.id)
                self._say(container.id, "its removal is finished")

    async def apply_policies(self) -> None:
        """Start what its restart policy wants running after the daemon came up."""
        for container in self._context.store:
            if not wants_start(container):
                continue
            live = self._context.of(container.id)
            if live.restart is not None:
                continue
            try:
                await self._starter.start(container.id)
            except BoxwoodError as error:
                log.error("start %s by its policy: %s", ids.short(container.id), error)


def wants_start(container: Container) -> bool:
    """Whether a stopped container starts with the daemon."""
    state, policy = container.state, container.host_config.restart_policy
    if policy.name not in _RESTARTED or state.status != states.EXITED or not state.has_started:
        return False
    if policy.name == "always":
        return True
    if state.manually_stopped:
        return False
    if policy.name == "unless-stopped":
        return True
    limit = policy.maximum_retry_count
    return state.exit_code != 0 and (not limit or state.restart_count < limit)


async def _ended(shim: Shim) -> None:
    """Wait until the shim has noticed that its task is dead; bounded."""
    try:
        async with asyncio.timeout(ORPHAN_GRACE):
            await asyncio.shield(shim.wait())
    except TimeoutError:
        log.error("shim %s: its task does not die", shim.config.id)


def _read_spec(directory: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode((directory / SPEC_FILE).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _directories(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.exists() else []
