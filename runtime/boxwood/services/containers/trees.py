"""The files of a container as a descriptor, whether it runs or not."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from boxwood.errors import Conflict, NotFound
from boxwood.execution.view import assembled
from boxwood.execution.view_child import ViewMount
from boxwood.services.containers import mountspec

if TYPE_CHECKING:
    from boxwood.model.container import Container, MountPoint
    from boxwood.services.containers.context import Context


class Trees:
    """Opens the trees of containers; what is done in them is done by workers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @asynccontextmanager
    async def writable(self, container: Container) -> AsyncIterator[int]:
        """``async with trees.writable(container) as root``: as :meth:`seen`, to change it.

        One that does not run cannot start meanwhile, nor be changed by anybody else.
        """
        async with AsyncExitStack() as stack:
            if not container.state.running:
                container = await self._hold(container, stack)
            if container.state.running:
                root = await stack.enter_async_context(self.seen(container))
            else:
                root = await stack.enter_async_context(self._stopped(container, write=True))
            yield root

    @asynccontextmanager
    async def seen(self, container: Container, *, own: bool = False) -> AsyncIterator[int]:
        """``async with trees.seen(container) as root``: its tree, volumes and binds in place.

        Of one that runs it is what its first process sees; with ``own`` what belongs to the
        container and nothing that the kernel shows in it (``/proc``, ``/dev``). To be read: one
        that does not run may start meanwhile, and who reads goes on reading.

        Raises:
            Conflict: it ends just now. Unavailable, DeadlineExceeded: see :mod:`.view`.
        """
        if not container.state.running and container.mounts and not container.state.has_started:
            container = await self._make_mount_points(container)
        if container.state.running and not own:
            root = self._open(container, "root")
            try:
                yield root
            finally:
                os.close(root)
        elif container.state.running:
            async with self._running(container, _mounts_of(container)) as root:
                yield root
        else:
            async with self._stopped(container, write=False) as root:
                yield root

    @asynccontextmanager
    async def bare(self, container: Container) -> AsyncIterator[int]:
        """The container's own file system, without any volume: what ``export`` packs."""
        if container.state.running:
            async with self._running(container, []) as root:
                yield root
            return
        async with self._context.layers.driver.opened(container.snapshot_key) as root:
            yield root

    async def _hold(self, container: Container, stack: AsyncExitStack) -> Container:
        """Keep starts and other writers out; returns the container as it is then."""
        await stack.enter_async_context(self._context.of(container.id).tree)
        return self._context.store.current(container.id)

    async def _make_mount_points(self, container: Container) -> Container:
        """Make what a container that never ran lacks, and who only reads cannot make."""
        async with AsyncExitStack() as stack:
            container = await self._hold(container, stack)
            if not container.state.running:
                async with self._stopped(container, write=True):
                    pass
        return self._context.store.current(container.id)

    @asynccontextmanager
    async def _running(self, container: Container, mounts: list[ViewMount]) -> AsyncIterator[int]:
        namespace = self._open(container, "ns/mnt")
        try:
            async with assembled(namespace, namespace=True, mounts=mounts) as root:
                yield root
        finally:
            os.close(namespace)

    def _open(self, container: Container, what: str) -> int:
        """Open something of the container's first process in ``/proc``."""
        live = self._context.of(container.id)
        handle = live.handle
        if handle is None or live.shim is None or not live.shim.running:
            raise Conflict(f"container {container.id} is not running")
        flags = os.O_PATH | os.O_DIRECTORY if what == "root" else os.O_RDONLY
        try:
            return os.open(f"/proc/{handle.pid}/{what}", flags | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"open {what}: process {handle.pid}: {error.strerror}") from error

    @asynccontextmanager
    async def _root(self, key: str, *, write: bool) -> AsyncIterator[int]:
        if not write:
            async with self._context.layers.driver.opened(key) as root:
                yield root
            return
        root = await self._context.layers.open_root(key)
        try:
            yield root
        finally:
            os.close(root)

    @asynccontextmanager
    async def _stopped(self, container: Container, *, write: bool) -> AsyncIterator[int]:
        async with self._root(container.snapshot_key, write=write) as root:
            read_only = container.host_config.readonly_rootfs
            if not container.mounts and not read_only:
                yield root
                return
            holder = f"copy-{secrets.token_hex(8)}"
            held: list[str] = []
            try:
                mounts = [await self._mount(point, holder, held) for point in container.mounts]
                async with assembled(
                    root, namespace=False, mounts=mounts, read_only=read_only
                ) as tree:
                    yield tree
            finally:
                # To its end, whoever goes away meanwhile.
                letting_go = self._let_go(held, holder)
                await asyncio.shield(self._context.spawn(letting_go, "let go of volumes"))

    async def _let_go(self, names: list[str], holder: str) -> None:
        for name in names:
            await self._context.volumes.unmount(name, holder)

    async def _mount(self, point: MountPoint, holder: str, held: list[str]) -> ViewMount:
        source = point.source
        if point.type == mountspec.VOLUME:
            attributes = {"destination": point.destination}
            source = str(await self._context.volumes.mount(point.name, holder, attributes))
            held.append(point.name)
        return ViewMount(point.destination, source, point.subpath, point.rw)


def _mounts_of(container: Container) -> list[ViewMount]:
    return [ViewMount(point.destination, point.source) for point in container.mounts]
