"""The event bus."""

from __future__ import annotations

import asyncio

import pytest

from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.event import Event
from boxwood.services.events import EventsService
from boxwood.services.events.service import BACKLOG, RING


def publish(service: EventsService, action: str = "start", **attributes: str) -> Event:
    return service.publish("container", action, "a" * 64, {"name": "web", **attributes})


async def test_subscribers_get_what_comes_after() -> None:
    service = EventsService()
    publish(service, "create")
    subscription = service.subscribe()
    publish(service, "start")
    event = await anext(subscription)
    assert (event.type, event.action, event.actor.attributes) == (
        "container",
        "start",
        {"name": "web"},
    )


async def test_since_replays_the_ring_and_until_ends_it() -> None:
    service = EventsService()
    for number in range(RING + 10):
        publish(service, f"e{number}")
    until = times.now()
    found = [event.action async for event in service.subscribe(since=1, until=until)]
    assert found == [f"e{number}" for number in range(10, RING + 10)]


async def test_until_in_the_future_ends_by_itself() -> None:
    service = EventsService()
    subscription = service.subscribe(until=times.now() + times.SECOND // 20)
    assert [event async for event in subscription] == []
    assert service.subscribers == 0


async def test_a_slow_subscriber_loses_events_and_holds_nobody_up() -> None:
    service = EventsService()
    subscription = service.subscribe()
    for _ in range(BACKLOG + 5):
        publish(service)
    assert subscription.dropped == 5
    subscription.close()
    assert len([event async for event in subscription]) == BACKLOG


async def test_close_ends_everybody() -> None:
    service = EventsService()
    subscription = service.subscribe()
    waiting = asyncio.ensure_future(anext(subscription, None))
    await asyncio.sleep(0)
    service.close()
    assert await waiting is None


async def test_times_never_run_backwards() -> None:
    service = EventsService()
    stamps = [publish(service).time_nano for _ in range(1000)]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["start"]}, True),
        ({"event": ["exec_create"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["/web"]}, True),
        ({"container": ["aaa"]}, True),
        ({"container": ["we"]}, True),
        ({"container": ["other"]}, False),
        ({"label": ["k"]}, True),
        ({"label": ["k=v"]}, True),
        ({"label": ["k=w"]}, False),
        ({"label": ["k", "nope"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1"]}, True),
        ({"image": ["debian"]}, False),
        ({"volume": ["web"]}, False),
        ({"scope": ["local"]}, True),
        ({"type": ["container", "image"], "event": ["stop", "start"]}, True),
        ({"type": []}, True),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: bool) -> None:
    service = EventsService()
    publish(service, "start", k="v", image="busybox:1")
    subscription = service.subscribe(since=1, filters=filters)
    assert bool(subscription._queue) is expected


def test_prefixes_stand_for_whatever_follows() -> None:
    service = EventsService()
    publish(service, "exec_create: sh -c true")
    publish(service, "health_status: healthy")
    wanted = {"event": ["exec_create", "health_status"]}
    assert len(service.subscribe(since=1, filters=wanted)._queue) == 2


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'nope'"):
        EventsService().subscribe(filters={"nope": ["x"]})
