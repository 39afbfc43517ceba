"""The event bus: a ring of past events, and subscriptions that never hold anybody up."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Self

from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.event import Actor, Event
from boxwood.services.events.filters import compile_filters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

log = logging.getLogger(__name__)

RING = 256
"""Past events that are kept for ``since``, as many as Docker keeps."""
BACKLOG = 1024
"""Events that wait for one slow subscriber; what comes after them it does not get."""


class Subscription:
    """An asynchronous iterator of events; registered when it is made, ended by :meth:`close`."""

    def __init__(
        self, service: EventsService, past: list[Event], until: int, wanted: Callable[[Event], bool]
    ) -> None:
        self._service = service
        self._queue: deque[Event] = deque(past)
        self._until = until
        self._wanted = wanted
        self._wake = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def offer(self, event: Event) -> None:
        """Take an event, or drop it when too many wait already. Never blocks."""
        if not self._wanted(event):
            return
        if len(self._queue) >= BACKLOG:
            if not self.dropped:
                log.warning("events: a subscriber is too slow: it misses events from now on")
            self.dropped += 1
            return
        self._queue.append(event)
        self._wake.set()

    def close(self) -> None:
        """End the iteration and forget the subscription. Idempotent."""
        self._closed = True
        self._service.unsubscribe(self)
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed or not await self._wait():
                self.close()
                raise StopAsyncIteration
        event = self._queue.popleft()
        if self._until and event.time_nano > self._until:
            self.close()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """As :meth:`close`, for ``contextlib.aclosing``."""
        self.close()

    async def _wait(self) -> bool:
        self._wake.clear()
        timeout = (self._until - times.now()) / times.SECOND if self._until else None
        if timeout is not None and timeout <= 0:
            return False
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


def _seconds(nanoseconds: int) -> str:
    """Return a time as clients give it: seconds, with a fraction if there is one."""
    whole, rest = divmod(nanoseconds, times.SECOND)
    return f"{whole}.{rest:09d}" if rest else str(whole)


class EventsService:
    """Publishes events to subscribers and to one observer (the extensions' hook)."""

    def __init__(self, observer: Callable[[Event], None] | None = None) -> None:
        """``observer`` is called with each event and must not raise."""
        self._ring: deque[Event] = deque(maxlen=RING)
        self._subscriptions: set[Subscription] = set()
        self._observer = observer
        self._last = 0

    def publish(
        self, type: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None
    ) -> Event:
        """Tell everybody; returns the event. Times never run backwards within one daemon."""
        self._last = max(times.now(), self._last + 1)
        event = Event(
            type=type,
            action=action,
            actor=Actor(id=actor_id, attributes=dict(attributes or {})),
            time=self._last // times.SECOND,
            time_nano=self._last,
        )
        self._ring.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event)
        if self._observer is not None:
            self._observer(event)
        return event

    def subscribe(
        self, since: int = 0, until: int = 0, filters: Mapping[str, Iterable[str]] | None = None
    ) -> Subscription:
        """Return a subscription that is registered already.

        Args:
            since: nanoseconds since the epoch; past events from then on come first; 0: none.
            until: nanoseconds since the epoch at which it ends; 0: never.
            filters: see :mod:`boxwood.services.events.filters`.

        Raises:
            InvalidArgument: an unknown filter, or ``until`` before ``since``.
        """
        if since and until and since > until:
            raise InvalidArgument(
                f"`since` time ({_seconds(since)}) cannot be after `until` time ({_seconds(until)})"
            )
        wanted = compile_filters(filters or {})
        past = [event for event in self._ring if event.time_nano >= since] if since else []
        subscription = Subscription(self, [event for event in past if wanted(event)], until, wanted)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription. Idempotent."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription (the daemon stops)."""
        for subscription in list(self._subscriptions):
            subscription.close()

    @property
    def subscribers(self) -> int:
        """How many watch."""
        return len(self._subscriptions)
