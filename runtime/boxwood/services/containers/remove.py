"""Removing a container and everything that was made for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from boxwood.errors import BoxwoodError, Conflict, NotFound
from boxwood.faultpoints import fault
from boxwood.model import container as states
from boxwood.model.request import WaitResult
from boxwood.model.wire import replace
from boxwood.services.containers.live import NEXT_EXIT, NOT_RUNNING, REMOVED

if TYPE_CHECKING:
    from boxwood.model.container import Container
    from boxwood.services.containers.context import Context
    from boxwood.services.containers.live import Live
    from boxwood.services.containers.stop import Stopper

log = logging.getLogger(__name__)


class Remover:
    """``remove``, in an order in which every step can be repeated after a crash."""

    def __init__(self, context: Context, stopper: Stopper) -> None:
        self._context = context
        self._stopper = stopper

    async def remove(self, key: str, force: bool, volumes: bool) -> None:
        """Remove a container by id.

        Args:
            force: kill it first when it runs.
            volumes: its anonymous volumes too.

        Raises:
            Conflict: it runs, or its removal is under way; in Docker's words.
        """
        context = self._context
        live = context.of(key)
        if live.removing:
            raise Conflict(f"removal of container {key} is already in progress")
        live.removing = True
        try:
            await self._remove(key, live, force, volumes)
        finally:
            live.removing = False
            if key not in context.store:
                context.live.pop(key, None)

    async def _remove(self, key: str, live: Live, force: bool, volumes: bool) -> None:
        if force:
            await self._stopper.end_start(key, live)
        container = self._context.store.current(key)
        if container.state.running or container.state.status == states.RESTARTING:
            if not force:
                raise Conflict(_running_text(container))
            try:
                await self._stopper.kill(key, "SIGKILL")
            except Conflict:
                log.debug("remove %s: it ended by itself", key[:12])
            await live.freed.wait()
        fault("remove.begun")
        async with live.lock:
            container = self._context.store.current(key)
            if container.state.running:
                raise Conflict(_running_text(container))
            live.cancel_timers()
            await self._take_apart(container, live)
        if volumes:
            await self._remove_volumes(container)

    async def _take_apart(self, container: Container, live: Live) -> None:
        context = self._context
        marked = replace(container, state=replace(container.state, status=states.REMOVING))
        # The snapshot's release and the record's deletion are found by the next daemon if this
        # one dies between them; the mark on disk is only needed when they can fail.
        context.store.show(marked)
        try:
            await context.layers.release(container.snapshot_key)
            fault("remove.snapshot")
        except NotFound:
            log.warning("remove %s: its snapshot was gone", container.id[:12])
        except BaseException:
            context.store.keep(replace(marked, state=replace(marked.state, status=states.DEAD)))
            raise
        context.store.delete(container)
        fault("remove.recorded")
        live.drop_pending()
        context.trash.discard(f"{context.data}/{container.id}")
        fault("remove.directory")
        context.publish(container, "destroy")
        result = live.last or WaitResult(container.state.exit_code, container.state.error)
        live.resolve(result, REMOVED, NOT_RUNNING, NEXT_EXIT)
        live.ended.set()

    async def _remove_volumes(self, container: Container) -> None:
        for point in container.mounts:
            if point.type != "volume" or not point.anonymous:
                continue
            try:
                await self._context.volumes.remove(point.name)
            except (Conflict, NotFound):
                continue  # another container has it, or somebody was quicker
            except BoxwoodError as error:
                log.error("remove %s: volume %s: %s", container.id[:12], point.name, error)


def _running_text(container: Container) -> str:
    if container.state.status == states.PAUSED:
        return (
            f'cannot remove container "/{container.name}": container is paused and must be '
            "unpaused first"
        )
    if container.state.status == states.RESTARTING:
        return (
            f'cannot remove container "/{container.name}": container is restarting: stop the '
            "container before removing or force remove"
        )
    return (
        f'cannot remove container "/{container.name}": container is running: stop the container '
        "before removing or force remove"
    )
