from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.drivers import manager
from boxwood.execution.mounting import open_root
from boxwood.execution.worker import WorkerPool
from boxwood.services.images import ImagesService
from boxwood.store.content import ContentStore
from boxwood.store.database import Database
from boxwood.store.layers import LayerStore
from tests.support.needs import need_root


class Recorder:
    """An event bus that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def publish(self, *what: Any) -> None:
        self.seen.append(what)


class Home:
    """A data root, the services on it, and what they left in it."""

    def __init__(self, root: Path, driver: str, workers: WorkerPool) -> None:
        self.root = root
        self.driver = driver
        self.workers = workers
        self.open()

    def open(self) -> None:
        """Make all anew, as a start does."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.database = Database(self.root / "boxwood.db")
        self.content = ContentStore(self.root / "content")
        storage = manager.select(
            "storage", self.driver, root=self.root / "storage" / self.driver, options={}
        )
        self.layers = LayerStore(
            self.database, storage, self.content, self.workers.offload, open_root
        )
        self.events = Recorder()
        self.images = ImagesService(
            self.database, self.content, self.layers, self.workers, self.events
        )
        self.said: list[dict[str, Any]] = []

    async def load(self, data: bytes) -> list[str]:
        """Load an archive; returns the lines that a client sees."""
        self.said = []
        await self.images.load(pieces(data), self.said.append)
        return [message["stream"] for message in self.said]

    async def import_(self, data: bytes, repo: str = "", **options: Any) -> Any:
        return await self.images.import_(pieces(data), repo, **options)

    async def left(self) -> dict[str, list[str]]:
        """Return all that is there once it has settled: snapshots, blobs, records, rests."""
        await self.layers.blobs.idle()
        await self.layers.idle()
        return {
            "snapshots": sorted(
                info.key for info in self.layers.driver.walk() if not info.key.startswith("init-")
            ),
            "blobs": sorted(self.content.walk()),
            "ingest": self.content.leftovers(all_of_them=True),
            "images": [key for key, _ in self.database.records("images").load_all()],
            "tags": [key for key, _ in self.database.records("tags").load_all()],
            "layers": [key for key, _ in self.database.records("layers").load_all()],
        }

    async def close(self) -> None:
        await self.layers.idle()
        await self.layers.close()
        self.database.close()


NOTHING: dict[str, list[str]] = {
    "snapshots": [], "blobs": [], "ingest": [], "images": [], "tags": [], "layers": [],
}  # fmt: skip


async def pieces(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    """Yield a body as a connection brings it."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture
async def workers() -> AsyncIterator[WorkerPool]:
    need_root()
    pool = WorkerPool()
    yield pool
    await pool.close()


@pytest.fixture(params=["overlay", "vfs"])
async def home(
    request: pytest.FixtureRequest, tmp_path: Path, workers: WorkerPool
) -> AsyncIterator[Home]:
    found = Home(tmp_path / "data", request.param, workers)
    yield found
    await found.close()
