"""Layers and the snapshots that stand on them.

A *layer* is a committed snapshot, named by its chain ID and shared by all images that have it. The
*init layer* of an image is a committed snapshot on its topmost layer with what every container's
tree must hold; a *container's snapshot* is an active one on that.

Keys in the storage driver: ``layer-<hex of the chain ID>``, ``init-<same>`` (``init-scratch`` for
an image without layers), the container's id, and ``unpack-...`` while a layer is being made.

Nothing is reference-counted on disk: which layers are needed follows from the records of images
and containers. The order is: snapshot, then record; record gone, then snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from boxwood.drivers.storage import (
    MOUNTS_ONLY,
    Kind,
    Mount,
    Mounter,
    Offload,
    SnapshotOptions,
    StorageDriver,
    open_directory,
)
from boxwood.errors import BoxwoodError, NotFound
from boxwood.faultpoints import fault
from boxwood.store.blobs import NEVER, LayerBlobs
from boxwood.store.locks import KeyedLocks
from boxwood.store.records import LayerRecords, init_key, layer_key
from boxwood.store.trash import Trash
from boxwood.store.unpacking import LayerLimits, Unpacker

if TYPE_CHECKING:
    from boxwood.model.digest import Digest
    from boxwood.model.image import Image
    from boxwood.store.content import ContentStore
    from boxwood.store.database import Database
    from boxwood.store.records import Layer

log = logging.getLogger(__name__)


class LayerStore:
    """The layers of the engine. One instance, in the event loop's thread."""

    def __init__(
        self,
        database: Database,
        driver: StorageDriver,
        content: ContentStore,
        offload: Offload,
        mounter: Mounter,
        limits: LayerLimits = LayerLimits(),  # noqa: B008 - immutable
        keep_blobs: str = NEVER,
    ) -> None:
        self.driver = driver
        self._content = content
        self._offload = offload
        self._locks = KeyedLocks()
        driver.offload = offload
        driver.mounter = mounter
        self.needed: Callable[[], Collection[str]] | None = None
        """Returns the chain IDs that images need; the images service sets it."""
        self._stale = False
        self._settling = asyncio.Lock()
        self._records = LayerRecords(database)
        self._trash = Trash(driver, content, offload)
        self.blobs = LayerBlobs(content, driver, offload, keep_blobs, self._records)
        self.unpacker = Unpacker(
            driver, content, self._records, self.blobs, self._trash, self._locks, limits
        )

    # Layers

    def get(self, chain: str) -> Layer:
        """Return a layer; raises NotFound."""
        return self._records.get(chain)

    def has(self, chain: str) -> bool:
        """Is the layer here?"""
        return chain in self._records

    def has_archive(self, hex: str) -> bool:
        """Is a layer here whose tar, as it came or uncompressed, has this SHA-256?"""
        digest = f"sha256:{hex}"
        return any(digest in (layer.blob, layer.diff_id) for layer in self._records.all())

    def all(self) -> list[Layer]:
        """Return all layers, in no order."""
        return self._records.all()

    def remember(self, layer: Layer) -> Layer:
        """Record what was found out of a layer; returns it."""
        self._records.update(layer)
        return layer

    def size(self, chains: Iterable[str]) -> int:
        """Return the bytes of these layers together."""
        return sum(layer.size for chain in chains if (layer := self._records.find(chain)))

    def total_size(self) -> int:
        """Return the bytes of all layers."""
        return sum(layer.size for layer in self._records.all())

    async def settle(self, chains: Iterable[str]) -> None:
        """Make these layers durable and record them: before whatever names them is recorded.

        One barrier for all: the storage driver's and the content store's file systems are written
        out, files and renames alike, and only then come the records, in one transaction. A power
        cut before leaves snapshots without a record, which the next start removes; after it,
        all that a record names is on disk. Nothing is synced file by file.

        Raises:
            NotFound: one of them is not here.
            ResourceExhausted, DeadlineExceeded, Unavailable
        """
        wanted = tuple(chains)
        async with self._settling:
            fresh = self._records.fresh(wanted)
            if fresh:
                await self.driver.sync()
                with open_directory(self._content.root) as fd:
                    await self._offload("sync", {}, [fd])
            fault("load.settled")
            self._records.settle(fresh)
        for chain in fresh:
            self.blobs.consider(chain)

    def forget_unused(self, needed: Collection[str]) -> list[str]:
        """Remove all layers that are not in ``needed``, topmost first, and their blobs.

        Returns:
            The diff IDs of the removed layers. One that a snapshot still stands on stays.
        """
        removed = []
        for layer in self._records.topmost_first():
            chain = layer.chain_id
            if chain in needed or self._locks.held(chain) or self._records.is_parent(chain):
                continue
            if self._remove_layer(layer):
                removed.append(layer.diff_id)
        if removed:
            self.clean_later()
        return removed

    def _remove_layer(self, layer: Layer) -> bool:
        for key in (init_key(layer.chain_id), layer_key(layer.chain_id)):
            try:
                self.driver.remove(key)
            except NotFound:
                continue
            except BoxwoodError as error:
                # A container stands on it: its removal, or the next start, tries again.
                log.info("layer %s stays: %s", layer.chain_id, error)
                self._stale = True
                return False
        self._records.drop(layer.chain_id)
        self.blobs.forget(layer)
        return True

    # Containers

    async def prepare_container(
        self,
        container_id: str,
        image: Image,
        *,
        options: SnapshotOptions = SnapshotOptions(),  # noqa: B008 - immutable
    ) -> str:
        """Make the writable snapshot of a container and return its key.

        Raises:
            AlreadyExists, NotFound (a layer of the image is gone), ResourceExhausted, Unsupported
        """
        chains = image.chain_ids
        init = await self.ensure_init(chains[-1] if chains else None)
        try:
            await self.driver.prepare(container_id, init, options=options)
        except BaseException:
            self.clean_later()
            raise
        return container_id

    async def ensure_init(self, chain: Digest | None) -> str:
        """Return the key of the init layer on ``chain``; made on first use."""
        key = init_key(chain)
        if self._exists(key):
            return key
        async with self._locks.hold(key):
            if not self._exists(key):
                await self._make_init(key, layer_key(chain) if chain is not None else None)
        return key

    async def _make_init(self, key: str, below: str | None) -> None:
        building = f"unpack-{secrets.token_hex(8)}"
        # Volatile: unmounting must not sync the disk, and empty files are no loss.
        await self.driver.prepare(building, below, options=SnapshotOptions(volatile=True))
        try:
            root = await self.driver.open_root(building)
            try:
                await self._offload("make_init_layer", {}, [root])
            finally:
                os.close(root)
            await self.driver.commit(building, key)
        except BaseException:
            self._trash.discard(building)
            raise

    def root_mounts(self, snapshot_key: str) -> list[Mount]:
        """Return what a container's root is mounted of; none where the driver mounts itself.

        Raises:
            NotFound
        """
        if MOUNTS_ONLY not in self.driver.capabilities:
            return []
        return self.driver.mounts(snapshot_key)

    async def open_root(self, snapshot_key: str, *, volatile: bool = False) -> int:
        """Return a descriptor of a container's root, mounted; the caller closes it.

        Raises:
            NotFound, Unavailable, ResourceExhausted
        """
        return await self.driver.open_root(snapshot_key, volatile=volatile)

    async def release(self, snapshot_key: str) -> None:
        """Remove a container's snapshot: at once from sight, later from disk. Idempotent."""
        try:
            self.driver.remove(snapshot_key)
        except NotFound:
            return
        if self._stale and self.needed is not None:
            # Layers of a removed image may have waited for this container.
            self._stale = False
            self.forget_unused(self.needed())
        self.clean_later()

    async def usage(self, snapshot_key: str) -> int:
        """Return the bytes that a container has written; raises NotFound."""
        return (await self.driver.usage(snapshot_key)).bytes

    # Start and cleaning

    async def reconcile(self, known_keys: Collection[str]) -> list[str]:
        """Bring snapshots and records together after a start; returns what was done.

        Snapshots that are neither a layer with a record, an init layer on one, nor a container's
        (``known_keys``) are removed; records of layers that have no snapshot are dropped.
        """
        done = self.forget_lost()
        kept = {layer_key(layer.chain_id) for layer in self._records.all()} | set(known_keys)
        for key in self._children_first():
            if key in kept or self.is_init(key):
                continue
            try:
                self.driver.remove(key)
                done.append(f"removed the snapshot {key}, which nothing refers to")
            except BoxwoodError as error:
                done.append(f"left the snapshot {key}: {error}")
        for path in self.blobs.strays():
            path.unlink(missing_ok=True)
            done.append(f"removed the recipe {path.name}, which belongs to no layer")
        self.blobs.consider_all()
        self.clean_later()
        return done

    def forget_lost(self) -> list[str]:
        """Drop the records of layers whose snapshots are gone; returns that in sentences."""
        return [self._drop_record(layer) for layer in self.lost()]

    def lost(self) -> list[Layer]:
        """Return the layers that have no snapshot, and those that stand on such a one."""
        found = self.driver.survey().values()
        present = {info.key for info in found if info.kind is Kind.COMMITTED}
        return self._records.with_descendants(
            [
                layer.chain_id
                for layer in self._records.all()
                if layer_key(layer.chain_id) not in present
            ]
        )

    def _drop_record(self, layer: Layer) -> str:
        self._records.drop(layer.chain_id)
        return f"forgot the layer {layer.chain_id}, whose files are gone"

    def is_init(self, key: str) -> bool:
        """Is this the key of an init layer that may be there?"""
        if key == init_key(None):
            return True
        return key.startswith("init-") and f"sha256:{key[5:]}" in self._records

    def _children_first(self) -> list[str]:
        infos = {info.key: info for info in self.driver.walk()}

        def depth(key: str | None) -> int:
            count = 0
            while key is not None and key in infos:
                key = infos[key].parent
                count += 1
            return count

        return sorted(infos, key=depth, reverse=True)

    def clean_later(self) -> None:
        """Have the trash emptied in the background; returns at once."""
        self._trash.clean_later()

    async def idle(self) -> None:
        """Wait until nothing is being cleaned."""
        await self._trash.idle()

    async def close(self) -> None:
        """Stop cleaning and dropping blobs; the next start goes on with it."""
        await self.blobs.close()
        await self._trash.close()

    def _exists(self, key: str) -> bool:
        try:
            self.driver.stat(key)
        except NotFound:
            return False
        return True
