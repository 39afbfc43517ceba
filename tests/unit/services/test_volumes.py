"""The volumes service over the local driver and a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwood.drivers.manager import select
from boxwood.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from boxwood.services.events import EventsService
from boxwood.services.volumes import VolumesService
from boxwood.store.database import Database


class Room:
    """A service, what it published, what it discarded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(root / "db")
        self.events = EventsService()
        self.discarded: list[Path] = []
        self.users: dict[str, list[str]] = {}
        self.service = self.make()

    def make(self) -> VolumesService:
        """Make a service as a fresh daemon would."""
        service = VolumesService(
            self.database.records("volumes"),
            lambda name: select("volume", name, root=self.root / "volumes", options={}),
            self.events,
            self.discarded.append,
        )
        service.users_of = lambda name: self.users.get(name, [])
        return service

    def actions(self) -> list[str]:
        return [event.action for event in self.events.subscribe(since=1)._queue]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.database.close()


async def test_create_is_idempotent_and_survives_the_daemon(room: Room) -> None:
    made = await room.service.create("data", labels={"a": "b"})
    assert await room.service.create("data", driver="local") == made
    assert room.actions() == ["create"]
    again = room.make()
    assert await again.load() == []
    assert again.get("data") == made


async def test_another_driver_of_that_name(room: Room) -> None:
    await room.service.create("data")
    with pytest.raises(AlreadyExists):
        await room.service.create("data", driver="other")
    with pytest.raises(NotFound, match="plugin"):
        await room.service.create("fresh", driver="other")


async def test_a_volume_in_use_stays(room: Room) -> None:
    await room.service.create("data")
    room.users["data"] = ["c1", "c2"]
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[c1, c2\]"):
        await room.service.remove("data")
    room.users.clear()
    await room.service.remove("data")
    assert len(room.discarded) == 1
    with pytest.raises(NotFound, match="get data: no such volume"):
        room.service.get("data")
    with pytest.raises(NotFound):
        await room.service.remove("data")
    await room.service.remove("data", force=True)


async def test_data_without_a_record_is_taken_up(room: Room) -> None:
    made = await room.service.create("data")
    room.database.records("volumes").delete("data")
    again = room.make()
    assert await again.load() == ["took up volume data, which had no record"]
    assert again.get("data").mountpoint == made.mountpoint


async def test_prune_takes_anonymous_ones_unless_told_otherwise(room: Room) -> None:
    anonymous = await room.service.create()
    await room.service.create("named", labels={"keep": "1"})
    used = await room.service.create()
    room.users[used.name] = ["c"]
    assert await room.service.prune({"label": ["nope"]}) == []
    assert await room.service.prune() == [anonymous.name]
    assert await room.service.prune({"all": ["true"], "label!": ["keep"]}) == []
    assert await room.service.prune({"all": ["true"]}) == ["named"]
    assert await room.service.prune({"all": ["true"]}) == []


async def test_filters(room: Room) -> None:
    await room.service.create("web-data", labels={"a": "1"})
    await room.service.create("db-data", labels={"a": "2"})
    room.users["db-data"] = ["c"]

    def names(**filters: list[str]) -> list[str]:
        return [volume.name for volume in room.service.list(filters)[0]]

    assert names() == ["db-data", "web-data"]
    assert names(name=["web"]) == ["web-data"]
    assert names(name=["^db", "web"]) == ["db-data", "web-data"]
    assert names(label=["a"]) == ["db-data", "web-data"]
    assert names(label=["a=2"]) == ["db-data"]
    assert names(dangling=["true"]) == ["web-data"]
    assert names(dangling=["false"]) == ["db-data"]
    assert names(driver=["nope"]) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        room.service.list({"x": ["y"]})


async def test_mounts_are_told(room: Room) -> None:
    await room.service.create("data")
    path = await room.service.mount("data", "c1", {"destination": "/d"})
    assert path.is_dir()
    with pytest.raises(Conflict):
        await room.service.remove("data")
    await room.service.unmount("data", "c1")
    await room.service.unmount("gone", "c1")
    assert room.actions() == ["create", "mount", "unmount"]
    assert room.service.seedable("data")
