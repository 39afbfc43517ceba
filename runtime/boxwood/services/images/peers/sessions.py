"""The transfers that are under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from boxwood.errors import BoxwoodError, InvalidArgument
from boxwood.model.reference import Reference
from boxwood.services.images.peers.channel import TYPE, Channel
from boxwood.services.images.peers.receiving import Receive
from boxwood.services.images.peers.sending import Send

if TYPE_CHECKING:
    from boxwood.model.request import Upgrade
    from boxwood.services.images.service import ImagesService

log = logging.getLogger(__name__)


class Peers:
    """All transfers of the engine. One instance, the images service's."""

    def __init__(self, service: ImagesService) -> None:
        self._service = service
        self._running: set[asyncio.Task[None]] = set()
        self._arriving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(self, ref: str, upgrade: Upgrade) -> None:
        """Give an image to the engine at the other end of the client's connection.

        Raises, before the connection is taken over:
            NotFound, InvalidArgument
        """
        image = self._service.get(ref)
        async with self._session(upgrade) as channel:
            await Send(self._service, image, channel).run()

    async def receive(self, name: str, upgrade: Upgrade, *, exact: bool = False) -> None:
        """Take an image from there, and call it ``name``, if that is not empty.

        ``exact``: the compressed bytes of layers come that cannot be made again of their tars.

        Raises, before the connection is taken over:
            InvalidArgument: no name for an image.
            PermissionDenied: a name that may not be pulled, or only with a signature.
        """
        reference = Reference.parse(name).with_default_tag() if name else None
        if reference is not None:
            self._check(reference)
        async with self._session(upgrade) as channel:
            await Receive(self._service, channel, reference, blobs=exact).run()

    def _check(self, name: Reference) -> None:
        if name.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        policy = self._service.shipping.policy
        policy.unsigned(name, "from another engine none comes")

    @asynccontextmanager
    async def _session(self, upgrade: Upgrade) -> AsyncIterator[Channel]:
        channel = Channel(*await upgrade.accept(TYPE))
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield channel
        except BoxwoodError as error:
            log.info("store: %s", error)
            await channel.fail(error)
        except Exception as error:
            log.exception("store: unexpected error")
            await channel.fail(error)
        finally:
            self._running.discard(task)
            channel.close()

    @asynccontextmanager
    async def alone(self, diff_id: str) -> AsyncIterator[None]:
        """``async with peers.alone(diff_id)``: one transfer of a layer at a time."""
        lock = self._arriving.setdefault(diff_id, asyncio.Lock())
        async with lock:
            yield

    async def close(self) -> None:
        """End all transfers; what came of layers stays."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
