"""A layer's bytes, asked for by who knew it before it was found out what it came as."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from boxwood.drivers.storage import StorageDriver
from boxwood.execution.worker_archive import plain_layer
from boxwood.model.digest import Digest
from boxwood.model.wire import replace
from boxwood.store.blobs import NEVER, LayerBlobs
from boxwood.store.content import ContentStore
from boxwood.store.database import Database
from boxwood.store.records import Layer, LayerRecords

TAR = b"tar" * 100_000
GZIP = gzip.compress(TAR)
BARE = Layer(
    chain_id=str(Digest.of(TAR)),
    diff_id=str(Digest.of(TAR)),
    blob=str(Digest.of(TAR)),
    stored=len(TAR),
    tar_size=len(TAR),
    recipe=True,
    kept=False,
)
PROVEN = replace(
    BARE, blob=str(Digest.of(GZIP)), stored=len(GZIP), compression="gzip", kept=True, recipe=False
)


async def offload(job: str, arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    assert job == "plain_layer"
    return await asyncio.to_thread(plain_layer, arguments, fds)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[LayerBlobs]:
    """The blobs of a store whose only layer is known by what it came as."""
    database = Database(tmp_path / "boxwood.db")
    records = LayerRecords(database)
    records.add(PROVEN)
    content = ContentStore(tmp_path)
    content.put(GZIP)
    yield LayerBlobs(
        content,
        cast(StorageDriver, None),
        offload,
        NEVER,
        records,
    )
    database.close()


def whole(fd: int) -> bytes:
    os.set_blocking(fd, True)
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read()


@pytest.mark.parametrize("known", [BARE, PROVEN])
async def test_the_tar_is_the_tar(blobs: LayerBlobs, known: Layer) -> None:
    async with blobs.open_tar(known) as (fd, size):
        assert await asyncio.to_thread(whole, fd) == TAR
        assert size == len(TAR)


async def test_the_bytes_are_those_that_were_known(blobs: LayerBlobs) -> None:
    """Of one that was known by its tar they stay the tar's: their digest has been said."""
    for known, content in ((BARE, TAR), (PROVEN, GZIP)):
        async with blobs.open_blob(known) as (fd, size):
            assert await asyncio.to_thread(whole, fd) == content
            assert size == len(content)
