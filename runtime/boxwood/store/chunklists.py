"""What chunks the layers' tars consist of, written down once: derived data, made again at need.

On disk, beside the content store's blobs, in the form of :mod:`boxwood.execution.worker_chunks`
(20 bytes for some 9 KiB of tar)::

    <content>/chunks/<hex of the chain ID>     empty where it would be longer than LIST_LIMIT
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from boxwood.drivers.storage import Offload, as_boxwood_error
from boxwood.faultpoints import LIST_LIMIT
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boxwood.store.content import ContentStore
    from boxwood.store.records import Layer

LARGEST = LIST_LIMIT // 20 * (32 << 10)
"""Bytes of a tar beyond which its list is certainly too long: of all chunks of the longest kind."""

OpenTar = Callable[["Layer"], AbstractAsyncContextManager[tuple[int, int]]]


class ChunkLists:
    """One instance, of the layer store's blobs; in the event loop's thread."""

    def __init__(self, content: ContentStore, offload: Offload, open_tar: OpenTar) -> None:
        self._ingest = content.root / "ingest"
        self._lists = content.root / "chunks"
        self._offload, self._open_tar = offload, open_tar
        try:
            self._lists.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise as_boxwood_error("make directory", self._lists, error) from error

    @asynccontextmanager
    async def opened(self, layer: Layer) -> AsyncIterator[int]:
        """``async with lists.opened(layer) as fd``: the list of a layer's tar, a file.

        Raises:
            NotFound: its bytes are not here.
            DataLoss: they could not be made again.
            ResourceExhausted, DeadlineExceeded, Unavailable
        """
        path = self._lists / Digest.parse(layer.chain_id).hex
        if not path.exists():
            await self._make(layer, path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    async def _make(self, layer: Layer, path: Path) -> None:
        fresh = self._ingest / f"chunks.{secrets.token_hex(8)}"
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                async with self._open_tar(layer) as (tar, _):
                    await self.write(tar, fd)
            finally:
                os.close(fd)
            fresh.rename(path)
        except OSError as error:
            raise as_boxwood_error("list chunks", layer.diff_id, error) from error
        finally:
            fresh.unlink(missing_ok=True)

    async def write(self, tar: int, sink: int) -> int:
        """Write the list of a stream's chunks; returns the bytes up to its content's last cut.

        Of one whose list would be too long nothing is written; the bytes are 0 then.
        """
        os.set_blocking(tar, True)  # the worker, which alone reads it, knows no event loop
        found = await self._offload("chunk_layer", {"limit": LIST_LIMIT}, [tar, sink])
        return int(found["whole"])

    @contextmanager
    def scratch(self) -> Iterator[int]:
        """``with lists.scratch() as fd``: a nameless file; raises ResourceExhausted."""
        path = self._ingest / f"chunks.{secrets.token_hex(8)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("list chunks", path.name, error) from error
        try:
            path.unlink()
            yield fd
        finally:
            os.close(fd)

    def forget(self, chain: str) -> None:
        """Delete the list of a removed layer; none is no error."""
        (self._lists / Digest.parse(chain).hex).unlink(missing_ok=True)

    def strays(self, chains: Collection[str]) -> list[Path]:
        """Return the lists that belong to none of these layers."""
        known = {Digest.parse(chain).hex for chain in chains}
        return [path for path in self._lists.iterdir() if path.name not in known]
