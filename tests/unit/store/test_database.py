from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from boxwood.errors import DataLoss, Internal, ResourceExhausted, Unavailable
from boxwood.store.database import KINDS, SCHEMA_VERSION, Database


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "db"
    database = Database(path)
    for kind in KINDS:
        records = database.records(kind)
        records.put("b", b"1")
        records.put("a", b"2")
        records.put("b", b"3")
        records.delete("nothing")
    database.close()
    database = Database(path)
    for kind in KINDS:
        records = database.records(kind)
        assert records.load_all() == [("a", b"2"), ("b", b"3")]
        assert records.get("b") == b"3"
        records.delete("b")
        assert records.get("b") is None
    with pytest.raises(Internal):
        database.records("containers; DROP TABLE images")
    database.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    images, tags = database.records("images"), database.records("tags")

    def fail_half_way() -> None:
        with database.transaction():
            images.put("a", b"1")
            with database.transaction():
                tags.put("a", b"1")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert images.load_all() == tags.load_all() == []
    with database.transaction():
        images.put("a", b"1")
        tags.put("a", b"1")
    assert images.get("a") == tags.get("a") == b"1"
    database.close()


def test_a_killed_writer_loses_nothing_committed(tmp_path: Path) -> None:
    """The files as they are at that moment, journal and all, are what a killed daemon leaves."""
    database = Database(tmp_path / "db")
    database.records("images").put("kept", b"1")
    database.run("BEGIN IMMEDIATE")
    database.records("images").put("lost", b"1")
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("db*"):
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    database.run("ROLLBACK")
    database.close()
    again = Database(tmp_path / "copy" / "db")
    assert again.records("images").load_all() == [("kept", b"1")]
    again.close()


def test_a_newer_schema_is_refused_with_clear_words(tmp_path: Path) -> None:
    Database(tmp_path / "db").close()
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(Unavailable, match="newer Boxwood"):
        Database(tmp_path / "db")


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(DataLoss):
        Database(tmp_path / "db")
    with pytest.raises(Unavailable):
        Database(tmp_path / "missing" / "db")


def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own limit of pages answers as a full disk does."""
    database = Database(tmp_path / "db")
    pages = int(database.run("PRAGMA page_count")[0][0])
    database.run(f"PRAGMA max_page_count = {pages + 2}")
    images = database.records("images")
    images.put("small", b"1")
    with pytest.raises(ResourceExhausted):
        images.put("large", b"x" * 100_000)
    assert images.get("small") == b"1"
    assert images.get("large") is None
    database.close()
