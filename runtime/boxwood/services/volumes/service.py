"""The volumes service.

The driver's directory comes before the record that names it; a volume whose record is missing
after a crash (made, not acknowledged) is taken up again under its name at the next start: data is
never thrown away because a record is.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.volume import SEEDABLE
from boxwood.errors import AlreadyExists, BoxwoodError, Conflict, InvalidArgument, NotFound
from boxwood.model import ids, times
from boxwood.model.volume import ANONYMOUS_LABEL, VolumeRecord
from boxwood.model.wire import encode
from boxwood.store.locks import KeyedLocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Protocol

    from boxwood.drivers.volume import VolumeDriver
    from boxwood.store.database import Records

    class Publisher(Protocol):
        """What the service needs of the event bus."""

        def publish(
            self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]
        ) -> object:
            """Tell everybody."""


log = logging.getLogger(__name__)

# The services have a method of the name ``list``.
_Texts = list[str]
_Volumes = list[VolumeRecord]

DEFAULT_DRIVER = "local"
_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"label", "label!", "all"})
_TRUE = frozenset({"1", "true", "t"})
_FALSE = frozenset({"0", "false", "f"})

_decode = msgspec.json.Decoder(VolumeRecord).decode


class VolumesService:
    """One lock for each volume's name; lists are snapshots."""

    def __init__(
        self,
        records: Records,
        select: Callable[[str], VolumeDriver],
        events: Publisher,
        discard: Callable[[Path], None],
    ) -> None:
        """Take the collaborators.

        Args:
            records: of the kind ``volumes``.
            select: loads a driver by name; NotFound if there is none.
            events: where to publish.
            discard: has a directory deleted, in its own time.
        """
        self._records = records
        self._select = select
        self._events = events
        self._discard = discard
        self._drivers: dict[str, VolumeDriver] = {}
        self._volumes: dict[str, VolumeRecord] = {}
        self._locks = KeyedLocks()
        self.users_of: Callable[[str], list[str]] = lambda _: []
        """Ids of the containers whose record names a volume; the engine sets it."""
        self.mounted_by: Callable[[str], list[str]] = lambda _: []
        """Ids of those that have it mounted, as far as the records of the last daemon say."""

    async def load(self) -> _Texts:
        """Read the records and bring them and the drivers' volumes together.

        Returns:
            one sentence for each thing done.
        """
        self._volumes = {name: _decode(body) for name, body in self._records.load_all()}
        done = []
        for name in {DEFAULT_DRIVER, *(volume.driver for volume in self._volumes.values())}:
            try:
                done += await self._reconcile(self.driver(name))
            except BoxwoodError as error:
                log.error("volumes: driver %s: %s", name, error)
        return done

    async def _reconcile(self, driver: VolumeDriver) -> _Texts:
        users = {
            name: set(self.mounted_by(name))
            for name, volume in self._volumes.items()
            if volume.driver == driver.name
        }
        done = [*await driver.reconcile(users)]
        for found in await driver.list():
            if found.name not in self._volumes:
                record = VolumeRecord(
                    name=found.name,
                    driver=driver.name,
                    mountpoint=found.mountpoint,
                    created_at=found.created or times.now(),
                    options=found.options or None,
                )
                self._put(record)
                done.append(f"took up volume {found.name}, which had no record")
        for path in driver.trash():
            self._discard(path)
            done.append(f"removing what is left of a volume: {path.name}")
        return done

    def driver(self, name: str) -> VolumeDriver:
        """Return a driver; loaded at its first use. NotFound in Docker's words."""
        if name not in self._drivers:
            try:
                self._drivers[name] = self._select(name)
            except NotFound as error:
                raise NotFound(
                    f'error looking up volume plugin {name}: plugin "{name}" not found'
                ) from error
        return self._drivers[name]

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> tuple[_Volumes, _Texts]:
        """Return volumes by name, and warnings; raises InvalidArgument for an unknown filter."""
        wanted = _check_filters(filters, _LIST_FILTERS)
        found = [volume for volume in self._volumes.values() if self._matches(volume, wanted)]
        return sorted(found, key=lambda volume: volume.name), []

    def get(self, name: str) -> VolumeRecord:
        """Return a volume; raises NotFound in Docker's words."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> VolumeRecord:
        """Make a volume, or return the one that has the name and the driver already.

        Without a name it becomes an anonymous one.

        Raises:
            AlreadyExists: the name belongs to another driver.
            InvalidArgument: the name or an option.
            NotFound: the driver.
        """
        if not name:
            name = ids.new_id()
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        async with self._locks.hold(name):
            known = self._volumes.get(name)
            if known is not None:
                if driver and driver != known.driver:
                    raise AlreadyExists(
                        f"create {name}: conflict: volume name must be unique: it exists with the "
                        f"{known.driver} driver"
                    )
                return known
            with _creating(name):
                maker = self.driver(driver or DEFAULT_DRIVER)
                made = await maker.create(name, options or {})
            record = VolumeRecord(
                name=name,
                driver=maker.name,
                mountpoint=made.mountpoint,
                created_at=times.now(),
                labels=None if labels is None else dict(labels),
                options=dict(options) if options else None,
            )
            try:
                self._put(record)
            except BaseException:
                rest = await maker.remove(name)
                if rest is not None:
                    self._discard(rest)
                raise
        self._publish("create", record)
        return record

    async def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume that nobody uses; with ``force`` a missing one is fine.

        Raises:
            NotFound, Conflict: in Docker's words.
        """
        async with self._locks.hold(name):
            record = self._volumes.get(name)
            if record is None:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            users = self.users_of(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            rest = await self.driver(record.driver).remove(name)
            self._records.delete(name)
            del self._volumes[name]
        if rest is not None:
            self._discard(rest)
        self._publish("destroy", record)

    async def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> _Texts:
        """Remove unused volumes: anonymous ones, with the filter ``all`` named ones too.

        Returns:
            the names of those that are gone.
        """
        wanted = _check_filters(filters, _PRUNE_FILTERS)
        every = any(value.lower() in _TRUE for value in wanted.pop("all", ()))
        removed = []
        for volume in list(self._volumes.values()):
            if not (every or volume.anonymous) or not self._matches(volume, wanted):
                continue
            if self.users_of(volume.name):
                continue
            try:
                await self.remove(volume.name)
                removed.append(volume.name)
            except (Conflict, NotFound):
                continue  # somebody was quicker
        return removed

    async def mount(self, name: str, container: str, attributes: Mapping[str, str]) -> Path:
        """Return the directory of a volume for ``container`` to bind, and say so.

        Args:
            name: an existing volume.
            container: the id of the user.
            attributes: of the event (``destination``, ``read/write``, ``propagation``).
        """
        async with self._locks.hold(name):
            record = self.get(name)
            path = await self.driver(record.driver).mount(name, container)
        self._publish("mount", record, {"container": container, **attributes})
        return path

    async def unmount(self, name: str, container: str) -> None:
        """``container`` does not use it any more. Idempotent; never raises NotFound."""
        async with self._locks.hold(name):
            record = self._volumes.get(name)
            if record is None:
                return
            await self.driver(record.driver).unmount(name, container)
        self._publish("unmount", record, {"container": container})

    def seedable(self, name: str) -> bool:
        """Whether an empty volume is to be filled from the image."""
        return SEEDABLE in self.driver(self.get(name).driver).capabilities

    def _put(self, record: VolumeRecord) -> None:
        self._records.put(record.name, encode(record))
        self._volumes[record.name] = record

    def _publish(
        self, action: str, record: VolumeRecord, attributes: Mapping[str, str] | None = None
    ) -> None:
        self._events.publish(
            "volume", action, record.name, {"driver": record.driver, **(attributes or {})}
        )

    def _matches(self, volume: VolumeRecord, wanted: Mapping[str, tuple[str, ...]]) -> bool:
        return all(
            not values or any(self._match_one(volume, key, value) for value in values)
            if key not in ("label", "label!")
            else all(self._match_one(volume, key, value) for value in values)
            for key, values in wanted.items()
        )

    def _match_one(self, volume: VolumeRecord, key: str, value: str) -> bool:
        match key:
            case "name":
                return re.search(_pattern(value), volume.name) is not None
            case "driver":
                return volume.driver == value
            case "dangling":
                return (value.lower() in _TRUE) == (not self.users_of(volume.name))
            case "label":
                return _has_label(volume, value)
            case _:
                return not _has_label(volume, value)


@contextlib.contextmanager
def _creating(name: str) -> Iterator[None]:
    """Say which volume it was, in Docker's words, where a driver's refusal does not."""
    try:
        yield
    except (InvalidArgument, NotFound) as error:
        prefix = f"create {name}: "
        if str(error).startswith(prefix):
            raise
        raise type(error)(f"{prefix}{error}") from error


def _check_filters(
    filters: Mapping[str, Iterable[str]] | None, known: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    wanted = {key: tuple(values) for key, values in (filters or {}).items()}
    for key in wanted:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")
    for value in wanted.get("dangling", ()):
        if value.lower() not in _TRUE | _FALSE:
            raise InvalidArgument(f"invalid filter 'dangling=[{value}]'")
    return wanted


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error:
        return re.escape(value)
    return value


def _has_label(volume: VolumeRecord, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    labels = volume.labels or {}
    return name in labels and (not equals or labels[name] == value)
