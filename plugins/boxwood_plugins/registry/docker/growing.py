"""A blob that goes to a registry while it is made: its digest and size are known in the end.

It is sent as one PATCH without a length, as Docker sends all layers, and ended by a PUT. What is
made long before it is sent is asked for then: if the registry has it, the rest is not sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from boxwood.errors import DataLoss, InvalidArgument
from boxwood.model.descriptor import Descriptor
from boxwood.model.digest import Digest
from boxwood_plugins.registry._content import dropped
from boxwood_plugins.registry.docker.uploads import FAULTS, Upload

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials
    from boxwood.model.reference import Reference
    from boxwood_plugins.registry.docker.transport import DockerTransport

_UNKNOWN = Descriptor(digest=str(Digest.of(b"")))


class Growing(Upload):
    """What one such blob's way takes."""

    def __init__(
        self,
        transport: DockerTransport,
        reference: Reference,
        made: Awaitable[Descriptor],
        source: Callable[[int], AsyncIterator[bytes]],
        credentials: Credentials | None,
    ) -> None:
        super().__init__(transport, reference, _UNKNOWN, source, credentials)
        self._made = made

    async def send(self) -> None:
        """Store it; raises what ``made`` raises, too."""
        location = await self._post("", "")
        sending = asyncio.ensure_future(self._stream(location))
        try:
            found = await self._made
            self._digest, self._size = Digest.parse(found.digest), found.size
            if sending.done() or not await self._there():
                await self._ended(location, sending)
                return
        finally:
            await dropped(sending)
        await self._give_up(location)

    async def _ended(self, location: str, sending: asyncio.Task[str]) -> None:
        try:
            await self._end(await sending)
        except FAULTS as error:
            await self._go_on(location, error)
        except (InvalidArgument, DataLoss):
            await self.run(())  # bodies without a length are not for all: with it then

    async def _stream(self, location: str) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        body = self._body(self._source, 0)
        async with await self._ask(
            "PATCH", location, frozenset({202, 413}), headers=headers, body=body, patient=False
        ) as answer:
            await self._check(answer)
            return self._location(answer)
