"""Containers as records: what is in the database, and the same in memory.

Readers get immutable values and take no lock; a change is one transaction and one assignment.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import (
    AlreadyExists,
    BoxwoodError,
    DataLoss,
    InvalidArgument,
    NotFound,
)
from boxwood.model.container import Container
from boxwood.model.wire import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwood.store.database import Records

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(Container).decode


class ContainerStore:
    """All containers, by id and by name."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        self._owed: set[str] = set()
        """Containers whose newest version the disk had no room for."""

    def load(self) -> None:
        """Read every record.

        Raises:
            DataLoss: a record that cannot be read; the message names the container.
        """
        for key, body in self._records.load_all():
            try:
                container = _decode(body)
            except msgspec.MsgspecError as error:
                raise DataLoss(f"read record: container {key}: {error}") from error
            self._by_id[key] = container
            self._by_name[container.name] = key

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, key: str) -> bool:
        return key in self._by_id

    def current(self, key: str) -> Container:
        """Return the newest version of a container by its whole id; NotFound if it is gone."""
        try:
            return self._by_id[key]
        except KeyError:
            raise NotFound(f"No such container: {key}") from None

    def get(self, ref: str) -> Container:
        """Return a container by id, name or unique prefix of an id.

        Raises:
            NotFound: none; InvalidArgument: several.
        """
        found = self._by_id.get(ref)
        if found is not None:
            return found
        key = self._by_name.get(ref.removeprefix("/"))
        if key is not None:
            return self._by_id[key]
        matches = [key for key in self._by_id if key.startswith(ref)] if ref else []
        if not matches:
            raise NotFound(f"No such container: {ref}")
        if len(matches) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        return self._by_id[matches[0]]

    def reserved(self) -> set[str]:
        """Return the ids of all containers, those that are being made as well."""
        return set(self._by_name.values()) | set(self._by_id)

    def owner(self, name: str) -> str | None:
        """Return the id of the container (or reservation) that has a name."""
        return self._by_name.get(name)

    def reserve(self, name: str, key: str) -> None:
        """Take a name before the record is there; AlreadyExists in Docker's words.

        A rename reserves its new name as well; :meth:`put` lets go of the old one.
        """
        owner = self._by_name.setdefault(name, key)
        if owner != key:
            raise AlreadyExists(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def release(self, name: str, key: str) -> None:
        """Give back a reservation that came to nothing."""
        known = self._by_id.get(key)
        if self._by_name.get(name) == key and (known is None or known.name != name):
            del self._by_name[name]

    def put(self, container: Container) -> None:
        """Write a version: on disk first, then for every reader."""
        self._records.put(container.id, encode(container))
        before = self._by_id.get(container.id)
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
        if before is not None and before.name != container.name:
            self._by_name.pop(before.name, None)
        self._owed.discard(container.id)
        self.pay()

    def pay(self) -> None:
        """Write what the disk had no room for; goes on owing it when there still is none."""
        for key in list(self._owed):
            if key in self._by_id:
                try:
                    self._records.put(key, encode(self._by_id[key]))
                except BoxwoodError as error:
                    log.debug("container %s: still no room for its record: %s", key[:12], error)
                    return
            self._owed.discard(key)

    def keep(self, container: Container) -> None:
        """Write a version that tells what has happened already: it is shown even if the disk has
        no room for it. It is written with the next change of any container, or by :meth:`pay`.
        """
        try:
            self.put(container)
        except BoxwoodError as error:
            log.error("container %s: its record could not be written: %s", container.id[:12], error)
            self.show(container)
            self._owed.add(container.id)

    def keep_all(self, containers: Sequence[Container]) -> None:
        """As :meth:`keep`, for several at once: on disk are all of these versions, or none."""
        keys = {container.id for container in containers}
        try:
            self._records.put_all({one.id: encode(one) for one in containers})
            self._owed -= keys
        except BoxwoodError as error:
            log.error("containers: records could not be written: %s", error)
            self._owed |= keys
        for container in containers:
            self.show(container)

    def show(self, container: Container) -> None:
        """Make a version visible that need not survive the daemon (health, a passing state)."""
        self._by_id[container.id] = container

    def delete(self, container: Container) -> None:
        """Delete the record and give the name back."""
        self._records.delete(container.id)
        self._by_id.pop(container.id, None)
        if self._by_name.get(container.name) == container.id:
            del self._by_name[container.name]
