"""The workshop: programs that a registry transport must have run, in a container of ours.

The tree comes in as a tar and becomes an image, a container without network runs the command, its
tree goes out as a tar, and nothing stays. What a daemon leaves that dies meanwhile bears the label
:data:`LABEL`, and goes when the next one starts.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from boxwood.errors import Internal
from boxwood.model.config import ContainerConfig, HostConfig
from boxwood.model.request import CreateRequest, LogOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from boxwood.services.containers.service import ContainersService
    from boxwood.services.images.service import ImagesService

log = logging.getLogger(__name__)

LABEL = "boxwood.workshop"
PIECE = 1 << 20
_TAIL = 12
"""Lines of its output that an error shows."""


class Workshop:
    """See :class:`boxwood.drivers.registry.Workshop`."""

    def __init__(self, images: ImagesService, containers: ContainersService) -> None:
        self._images, self._containers = images, containers

    @asynccontextmanager
    async def run(
        self, tree: Path, command: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """Run the command; yields the tar of the tree that it leaves."""
        image = await self._images.import_(_pieces(tree), changes=(f"LABEL {LABEL}=1",))
        try:
            request = CreateRequest(
                config=ContainerConfig(
                    image=image.id,
                    cmd=tuple(command),
                    env=tuple(f"{name}={value}" for name, value in environment.items()),
                    labels={LABEL: "1"},
                ),
                host_config=HostConfig(network_mode="none"),
            )
            key, _ = await self._containers.create(None, request)
            try:
                await self._finish(key, command)
                yield self._containers.export(key)
            finally:
                await self._containers.remove(key, force=True, volumes=True)
        finally:
            self._images.remove(image.id, force=True)

    async def _finish(self, key: str, command: Sequence[str]) -> None:
        ended = self._containers.wait(key, "next-exit")
        await self._containers.start(key)
        code = (await ended).status_code
        if code:
            said = await self._said(key)
            raise Internal(f"{command[0]}: exit status {code} in its container: {said}")

    async def _said(self, key: str) -> str:
        options = LogOptions(stdout=True, stderr=True, tail=_TAIL)
        data = b"".join([piece async for piece in self._containers.logs(key, options)])
        text, at = b"", 0
        while at + 8 <= len(data):  # frames: kind, three zeros, length (docker-api: attach)
            (length,) = struct.unpack_from(">I", data, at + 4)
            text += data[at + 8 : at + 8 + length]
            at += 8 + length
        return text.decode(errors="replace").strip()

    async def sweep(self) -> list[str]:
        """Remove what an earlier daemon left; returns what was done."""
        done = []
        for container in self._containers.list(all=True, filters={"label": [f"{LABEL}=1"]}):
            await self._containers.remove(container.id, force=True, volumes=True)
            done.append(f"removed the workshop's container {container.id[:12]}")
        for image in self._images.list({"label": [f"{LABEL}=1"]}, all=True):
            if not image.tags:
                self._images.remove(image.id, force=True)
                done.append(f"removed the workshop's image {image.id[7:19]}")
        return done


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
