"""Network namespaces made before they are needed, so that a start does not wait for one."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from boxwood.errors import ResourceExhausted
from boxwood_ext import net

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

SIZE = 2
"""Namespaces kept ready: one for a start, one for the start that follows at once."""
REFILL_DELAY = 0.05
"""Seconds between taking one and making the next: by then the start that took it is over."""


class NetnsPool:
    """A few namespaces with their loopback up, in which nothing else is.

    They are held by descriptors of this process alone: they end with it.
    """

    def __init__(self, make: Callable[[], int] = net.make_namespace, size: int = SIZE) -> None:
        self._make = make
        self._size = size
        self._ready: list[int] = []
        self._filling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def closed(self) -> bool:
        """Whether none are kept ready any more."""
        return self._closed

    async def take(self) -> int:
        """Return the descriptor of a namespace, the caller's from now on.

        Raises:
            ResourceExhausted: the kernel makes none.
        """
        loop = asyncio.get_running_loop()
        if self._timer is None and not self._closed:
            self._timer = loop.call_later(REFILL_DELAY, self._refill)
        if self._ready:
            return self._ready.pop()
        return await asyncio.to_thread(self._fresh)

    def _fresh(self) -> int:
        try:
            return self._make()
        except OSError as error:
            raise ResourceExhausted(f"make network namespace: {error.strerror}") from error

    def fill(self) -> None:
        """Begin to make the first ones."""
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(0, self._refill)

    def _refill(self) -> None:
        self._timer = None
        if self._filling is None or self._filling.done():
            self._filling = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        while len(self._ready) < self._size and not self.closed():
            try:
                made = await asyncio.to_thread(self._fresh)
            except ResourceExhausted as error:
                log.warning("%s", error)
                return
            if self.closed():
                os.close(made)
            else:
                self._ready.append(made)

    async def close(self) -> None:
        """Let go of all that are ready. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)
        while self._ready:
            os.close(self._ready.pop())
