from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxwood.errors import DataLoss, NotFound, TooLarge
from boxwood.model.digest import Digest
from boxwood.store.content import ContentStore


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


def test_documents(store: ContentStore) -> None:
    digest = store.put(b"hello")
    assert digest == Digest.of(b"hello")
    assert store.put(b"hello") == digest
    assert store.read(digest, 5) == b"hello"
    assert (store.size(digest), store.has(digest)) == (5, True)
    assert list(store.walk()) == [digest]
    assert store.leftovers(all_of_them=True) == []
    with pytest.raises(TooLarge):
        store.read(digest, 4)
    store.delete(digest)
    store.delete(digest)
    for call in (store.size, store.open):
        with pytest.raises(NotFound):
            call(digest)


def test_damage_is_seen(store: ContentStore) -> None:
    digest = store.put(b"hello")
    store.path(digest).write_bytes(b"hullo")
    with pytest.raises(DataLoss):
        store.read(digest, 100)


def test_files_are_taken_over(store: ContentStore) -> None:
    digest = Digest.of(b"x")
    for _ in range(2):
        with store.ingest() as directory:
            (directory / "file").write_bytes(b"x")
            store.adopt(directory / "file", digest)
            assert (directory / "file").exists()  # whose name it was, removes it
        fd = store.open(digest)
        assert os.read(fd, 10) == b"x"
        os.close(fd)
    # Both directories wait to be deleted; one that is in use would not.
    with store.ingest():
        assert len(store.leftovers(all_of_them=False)) == 2
        assert len(store.leftovers(all_of_them=True)) == 3


def test_nobody_else_may_look(store: ContentStore) -> None:
    store.put(b"hello")
    for path in [store.root, *store.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0
