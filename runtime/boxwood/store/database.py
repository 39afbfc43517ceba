"""The records of the engine: one SQLite file, one transaction for each change of state.

WAL with ``synchronous=NORMAL``: a killed daemon loses nothing that was acknowledged, a commit
costs no fsync; after a power cut the file is whole and may lack the last moments, unless they were
:meth:`Database.durable`. One connection, used from the event loop's thread only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxwood.errors import BoxwoodError, DataLoss, Internal, ResourceExhausted, Unavailable

SCHEMA_VERSION = 2
"""2: records of layers whose archives may be gone, which version 1 would take for lost."""
KINDS = (
    "containers",
    "images",
    "tags",
    "layers",
    "volumes",
    "networks",
    "leases",
    "settings",
)
"""Kinds of records: a table each, of an id and a body that only its service understands."""

RESERVE = 256 << 10
"""Bytes held back beside the database for deletions on a full disk: a few dozen of them."""
_INDEX_SIZE = 32 << 10
"""Bytes of the journal's index, which SQLite makes at a first opening (sqlite.org/walformat)."""
_BUSY_MS = 5000
"""Milliseconds to wait for a reader of the same file (``sqlite3`` in somebody's shell)."""


def _create(connection: sqlite3.Connection) -> None:
    for kind in KINDS:
        connection.execute(f"CREATE TABLE {kind} (id TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT")


def _layers_without_blobs(connection: sqlite3.Connection) -> None:
    """Records that are there stay as they are: each has its blob."""
    del connection


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create, _layers_without_blobs)
"""Entry N takes a file of schema version N to N + 1. Entries are never changed once released."""


class Records:
    """The records of one kind; made by :meth:`Database.records`."""

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self._all = f"SELECT id, body FROM {kind} ORDER BY id"
        self._get = f"SELECT body FROM {kind} WHERE id = ?"
        self._put = (
            f"INSERT INTO {kind} (id, body) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        )
        self._delete = f"DELETE FROM {kind} WHERE id = ?"

    def load_all(self) -> list[tuple[str, bytes]]:
        """Return all records, ordered by id."""
        return [(str(key), bytes(body)) for key, body in self._database.run(self._all)]

    def get(self, key: str) -> bytes | None:
        """Return the body of a record, None when there is none."""
        rows = self._database.run(self._get, (key,))
        return bytes(rows[0][0]) if rows else None

    def put(self, key: str, body: bytes) -> None:
        """Write a record, whether it was there or not; ResourceExhausted on a full disk."""
        self._database.run(self._put, (key, body))
        self._database.renew_reserve()

    def put_all(self, bodies: Mapping[str, bytes]) -> None:
        """Write several records, all or none; as :meth:`put`."""
        with self._database.transaction():
            for key, body in bodies.items():
                self._database.run(self._put, (key, body))
        self._database.renew_reserve()

    def delete(self, key: str) -> None:
        """Delete a record; nothing happens when there is none.

        It works on a full disk too: deleting is how space is made.
        """
        for make_room in (self._database.fold, self._database.give_reserve):
            try:
                self._database.run(self._delete, (key,))
                return
            except ResourceExhausted:
                if not make_room():
                    raise
        self._database.run(self._delete, (key,))


class Database:
    """The open file. Errors: ResourceExhausted (disk full), DataLoss (damaged), Unavailable."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and bring its schema up to date.

        Raises:
            Unavailable: it cannot be opened, or a newer Boxwood has written it.
            DataLoss: it is no SQLite file, or damaged.
        """
        self.path = path
        self._depth = 0
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._reserve_is_short = False
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
        except sqlite3.Error as error:
            raise Unavailable(f"open database: {path}: {error}") from error
        try:
            path.chmod(0o600)
            try:
                self._set_up()
            except (ResourceExhausted, Unavailable):
                # On a full disk there is no room for the index of the journal either.
                if not self.give_reserve():
                    raise
                self._set_up()
            self._take_reserve()
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=500"):
            self.run(f"PRAGMA {pragma}")
        version = int(self.run("PRAGMA user_version")[0][0])
        if version > SCHEMA_VERSION:
            raise Unavailable(
                f"open database: {self.path}: written by a newer Boxwood (schema {version}, this "
                f"one knows {SCHEMA_VERSION}); start that version, or use another data root"
            )
        for step in range(version, SCHEMA_VERSION):
            with self.transaction():
                _MIGRATIONS[step](self._connection)
                self.run(f"PRAGMA user_version = {step + 1}")

    def records(self, kind: str) -> Records:
        """Return the records of one of :data:`KINDS`."""
        if kind not in KINDS:
            raise Internal(f"database: {kind}: no such kind of record")
        return Records(self, kind)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside become visible together or, after an exception, not at all.

        One inside another joins it. Never held across an ``await``.
        """
        if self._depth:
            yield
            return
        self.run("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        finally:
            self._depth = 0

    @contextmanager
    def durable(self) -> Iterator[None]:
        """What is committed inside is on disk when its commit returns, and all that came before.

        For a promise that a power cut must not break, and for a record whose files are removed
        next: files that outlast their record are cleaned away, the reverse is damage. It costs an
        fsync of the journal. Not inside a transaction.
        """
        self.run("PRAGMA synchronous=FULL")
        try:
            yield
        finally:
            self.run("PRAGMA synchronous=NORMAL")

    def run(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows; SQLite's errors as ours."""
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: sqlite3.Error) -> BoxwoodError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        message = f"database: {self.path}: {error}"
        if code == sqlite3.SQLITE_FULL:
            return ResourceExhausted(message)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DataLoss(message)
        if code == sqlite3.SQLITE_IOERR and not self._has_room():
            return ResourceExhausted(f"{message}: no space left on device")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            return Unavailable(message)
        return Internal(message)

    def _has_room(self) -> bool:
        """Whether the disk could take the smallest file that SQLite makes beside the database."""
        try:
            found = os.statvfs(self.path)
        except OSError:
            return True
        return found.f_bavail * found.f_frsize > _INDEX_SIZE

    def renew_reserve(self) -> None:
        """Hold back again what a full disk has cost; for after a write that there was room for."""
        if self._reserve_is_short and not self._depth:
            self._take_reserve()

    def _take_reserve(self) -> None:
        self._reserve_is_short = True
        try:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # a full disk is told by who needs the space
        try:
            for size in (RESERVE, RESERVE // 2, RESERVE // 4):
                try:
                    os.posix_fallocate(fd, 0, size)
                    self._reserve_is_short = size < RESERVE
                    return
                except OSError:
                    os.truncate(fd, 0)
        finally:
            os.close(fd)

    def fold(self) -> bool:
        """Fold the journal into the file, where most of it replaces what is there; False inside
        a transaction."""
        if self._depth:
            return False
        try:
            self.run("PRAGMA wal_checkpoint(TRUNCATE)")
        except (ResourceExhausted, Unavailable):
            return True  # the reserve is next
        return True

    def give_reserve(self) -> bool:
        """Free what is held back; False when it is in use already or this is a transaction."""
        if self._depth or not self._reserve.exists():
            return False
        self._reserve.unlink()
        self._reserve_is_short = True
        return True

    def checkpoint(self) -> None:
        """Fold the journal into the file; called now and then from a quiet moment."""
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")
        self._take_reserve()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()
