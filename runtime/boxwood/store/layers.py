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
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.storage import (
    MOUNTS_ONLY,
    Applied,
    ApplyRequest,
    Kind,
    Mount,
    Mounter,
    Offload,
    SnapshotOptions,
    StorageDriver,
    as_boxwood_error,
    open_directory,
)
from boxwood.errors import BoxwoodError, DataLoss, NotFound
from boxwood.faultpoints import fault
from boxwood.model.digest import Digest, chain_id
from boxwood.model.wire import encode
from boxwood.store.blobs import NEVER, Layer, LayerBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from boxwood.model.image import Image
    from boxwood.store.ahead import Begun
    from boxwood.store.content import ContentStore
    from boxwood.store.database import Database

log = logging.getLogger(__name__)

ENTRIES_LIMIT = 2_000_000
"""Entries of one layer: twenty times the largest images seen."""
BYTES_LIMIT = 1 << 40
"""Bytes of one layer unpacked; the disk is the real limit, and says so."""

CLEAN_DELAY = 0.2
"""Seconds in which removals come together before a worker deletes them."""


class Unpacked(msgspec.Struct, frozen=True):
    """What unpacking found out; ``layer`` is here already or now."""

    layer: Layer
    fresh: bool


class Loose(msgspec.Struct, frozen=True):
    """A layer that is unpacked, without a parent; its snapshot is ``key``."""

    key: str
    recipe: Path
    found: Applied


class LayerLimits(msgspec.Struct, frozen=True):
    """What one layer may be at most. ``ratio`` 0: what its compression can do at most."""

    entries: int = ENTRIES_LIMIT
    size: int = BYTES_LIMIT
    """Bytes of the tar, uncompressed."""
    ratio: int = 0
    name: int = 4095
    """Bytes of a name, and of a link's target."""


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
        self._limits = limits
        self._database = database
        self._records = database.records("layers")
        self._content = content
        self._offload = offload
        self._layers: dict[str, Layer] = {}
        self._locks: dict[str, _Lock] = {}
        self._cleaning: asyncio.Task[None] | None = None
        self._more_to_clean = False
        driver.offload = offload
        driver.mounter = mounter
        self.needed: Callable[[], Collection[str]] | None = None
        """Returns the chain IDs that images need; the images service sets it."""
        self._stale = False
        self._unsettled: dict[str, Layer] = {}
        self._settling = asyncio.Lock()
        self.blobs = LayerBlobs(
            content,
            driver,
            offload,
            keep_blobs,
            find=self._layers.get,
            all_layers=lambda: list(self._layers.values()),
            update=self._update,
            key_of=layer_key,
        )
        self._load()

    def _load(self) -> None:
        for _, body in self._records.load_all():
            try:
                layer = msgspec.json.decode(body, type=Layer)
            except msgspec.MsgspecError as error:
                raise DataLoss(f"layers: a record is broken: {error}") from error
            self._layers[layer.chain_id] = layer

    # Layers

    def get(self, chain: str) -> Layer:
        """Return a layer; raises NotFound."""
        layer = self._layers.get(chain)
        if layer is None:
            raise NotFound(f"layer: {chain}: no such layer")
        return layer

    def has(self, chain: str) -> bool:
        """Is the layer here?"""
        return chain in self._layers

    def has_archive(self, hex: str) -> bool:
        """Is a layer here whose tar, as it came or uncompressed, has this SHA-256?"""
        digest = f"sha256:{hex}"
        return any(digest in (layer.blob, layer.diff_id) for layer in self._layers.values())

    def all(self) -> list[Layer]:
        """Return all layers, in no order."""
        return list(self._layers.values())

    def _update(self, layer: Layer) -> None:
        """Take another version of a layer's record over; one that is not settled has none yet."""
        if layer.chain_id in self._unsettled:
            self._unsettled[layer.chain_id] = layer
        else:
            self._records.put(layer.chain_id, encode(layer))
        self._layers[layer.chain_id] = layer

    def remember(self, layer: Layer) -> Layer:
        """Record what was found out of a layer; returns it."""
        self._update(layer)
        return layer

    def size(self, chains: Iterable[str]) -> int:
        """Return the bytes of these layers together."""
        return sum(layer.size for chain in chains if (layer := self._layers.get(chain)))

    @property
    def limits(self) -> LayerLimits:
        """What one layer may be at most."""
        return self._limits

    def total_size(self) -> int:
        """Return the bytes of all layers."""
        return self.size(self._layers)

    async def unpack(
        self,
        parent: Digest | None,
        source: int,
        *,
        diff_id: str = "",
        digest: str = "",
        keep: Path | None = None,
        begun: Begun | None = None,
    ) -> Unpacked:
        """Unpack a layer's tar, compressed or not, on ``parent`` and keep it.

        Args:
            parent: chain ID of the layer below, which is here; None for the lowest.
            source: descriptor of the tar, read from its present offset to its end; a pipe will do.
            diff_id: what the uncompressed tar's digest must be; empty: whatever it is.
            digest: likewise, of the bytes as they come.
            keep: the file that ``source`` reads, to be taken over as a blob once it is verified,
                unless its bytes are not wanted any more then.
            begun: what has been begun of the same file (:mod:`boxwood.store.ahead`); with
                ``diff_id`` only.

        With a ``diff_id``, a layer that is here already is not read again, and one that is being
        unpacked for somebody else is waited for. Nothing is left after an error.

        Raises:
            InvalidArgument (a hostile or broken archive, another digest), TooLarge,
            ResourceExhausted, DeadlineExceeded, Unavailable
        """
        if not diff_id:
            return await self._unpack(parent, source, "", digest, keep)
        chain = chain_id(parent, diff_id)
        async with self._locked(chain):
            if chain in self._layers:
                if begun is not None:
                    begun.stop()
                return Unpacked(self._layers[chain], False)
            made = await begun.made() if begun is not None else None
            if made is not None and (done := await self._use(made, parent, diff_id, digest, keep)):
                return done
            return await self._unpack(parent, source, diff_id, digest, keep)

    async def unpack_loose(
        self, source: int, growing: int, *, diff_id: str = "", digest: str = ""
    ) -> Loose:
        """Unpack a layer without its parent; errors, and the digests, as :meth:`unpack`.

        ``growing`` as :attr:`ApplyRequest.growing`. The caller makes a layer of it by
        :meth:`unpack`, or calls :meth:`discard_loose`.
        """
        key = f"unpack-{secrets.token_hex(8)}"
        recipe = self._recipe_of(key)
        self.blobs.busy += 1
        try:
            await self.driver.prepare(key, None)
            try:
                found = await self._apply(key, source, diff_id, digest, recipe, growing)
            except BaseException:
                self._discard(key)
                recipe.unlink(missing_ok=True)
                raise
        finally:
            self.blobs.busy -= 1
        fault("load.ahead")
        return Loose(key, recipe, found)

    def discard_loose(self, made: Loose) -> None:
        """Throw away what nobody wants."""
        self._discard(made.key)
        made.recipe.unlink(missing_ok=True)

    async def _use(
        self, made: Loose, parent: Digest | None, diff_id: str, digest: str, keep: Path | None
    ) -> Unpacked | None:
        """Make it the layer that is wanted; None, and it is gone: it cannot be that."""
        self.blobs.busy += 1
        try:
            # Of a file that was still being written to, no more is known than what was read.
            whole = keep is None or keep.stat().st_size == made.found.stored
            if whole and await self._fits(made, parent, diff_id, digest):
                return await self._finish(made.key, parent, made.found, keep, made.recipe)
        except BaseException:
            self._discard(made.key)
            raise
        finally:
            self.blobs.busy -= 1
            made.recipe.unlink(missing_ok=True)
        self._discard(made.key)
        return None

    async def _fits(self, made: Loose, parent: Digest | None, diff_id: str, digest: str) -> bool:
        """Is this the layer that is wanted, and now on ``parent``?"""
        found = made.found
        if found.diff_id != diff_id or (digest and found.digest != digest):
            return False
        if parent is None:
            return True
        if found.lacked:
            return False
        try:
            await self.driver.rebase(made.key, layer_key(parent))
            fault("load.rebased")
            if found.implied:
                await self.driver.adopt(made.key, found.implied)
        except BoxwoodError as error:
            log.debug("rebase layer %s: %s", diff_id, error)
            return False
        return True

    def _recipe_of(self, key: str) -> Path:
        return self._content.root / "ingest" / f"recipe.{key}"

    async def _unpack(
        self, parent: Digest | None, source: int, diff_id: str, digest: str, keep: Path | None
    ) -> Unpacked:
        key = f"unpack-{secrets.token_hex(8)}"
        recipe = self._recipe_of(key)
        self.blobs.busy += 1
        try:
            await self.driver.prepare(key, layer_key(parent) if parent is not None else None)
            try:
                found = await self._apply(key, source, diff_id, digest, recipe)
                return await self._finish(key, parent, found, keep, recipe)
            except BaseException:
                self._discard(key)
                raise
        finally:
            self.blobs.busy -= 1
            recipe.unlink(missing_ok=True)

    async def _apply(
        self, key: str, source: int, diff_id: str, digest: str, recipe: Path, growing: int = -1
    ) -> Applied:
        limits = self._limits
        request = ApplyRequest(
            diff_id,
            digest,
            limits.size,
            limits.entries,
            limits.ratio,
            limits.name,
            growing=growing,
        )
        if not self.blobs.wanted:
            return await self.driver.apply(key, source, request)
        try:
            fd = os.open(recipe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("unpack layer", recipe.name, error) from error
        try:
            wanted = msgspec.structs.replace(request, recipe=fd)
            return await self.driver.apply(key, source, wanted)
        finally:
            os.close(fd)

    async def _finish(
        self, key: str, parent: Digest | None, found: Applied, keep: Path | None, recipe: Path
    ) -> Unpacked:
        """Make an unpacked snapshot a layer, unless there is that layer by now."""
        has_recipe = found.recipe and recipe.exists()
        known = keep is not None
        if not self.blobs.wants(found, has_recipe):
            keep = None
        layer = Layer(
            chain_id=str(chain_id(parent, found.diff_id)),
            diff_id=found.diff_id,
            parent=str(parent or ""),
            size=found.size,
            blob=found.digest if known else "",
            kept=keep is not None,
            stored=found.stored,
            tar_size=found.tar_size,
            compression=found.compression,
            compressor=found.compressor,
            recipe=has_recipe,
        )
        if layer.chain_id in self._layers:
            self._discard(key)
            return Unpacked(self._layers[layer.chain_id], False)
        if keep is not None:
            self._content.adopt(keep, Digest.parse(layer.blob))
        if layer.recipe:
            self.blobs.adopt_recipe(recipe, layer.chain_id)
        await self.driver.commit(key, layer_key(layer.chain_id))
        self._unsettled[layer.chain_id] = layer
        self._layers[layer.chain_id] = layer
        fault("load.unpacked")
        return Unpacked(layer, True)

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
            fresh = [self._unsettled[chain] for chain in wanted if chain in self._unsettled]
            if fresh:
                await self.driver.sync()
                with open_directory(self._content.root) as fd:
                    await self._offload("sync", {}, [fd])
            fault("load.settled")
            with self._database.transaction():
                for layer in fresh:
                    self._records.put(layer.chain_id, encode(self.get(layer.chain_id)))
            for layer in fresh:
                self._unsettled.pop(layer.chain_id, None)
        for layer in fresh:
            self.blobs.consider(layer.chain_id)

    def forget_unused(self, needed: Collection[str]) -> list[str]:
        """Remove all layers that are not in ``needed``, topmost first, and their blobs.

        Returns:
            The diff IDs of the removed layers. One that a snapshot still stands on stays.
        """
        removed = []
        order = sorted(self._layers.values(), key=self._depth, reverse=True)
        for layer in order:
            if layer.chain_id in needed or layer.chain_id in self._locks:
                continue
            if any(other.parent == layer.chain_id for other in self._layers.values()):
                continue
            if self._remove_layer(layer):
                removed.append(layer.diff_id)
        if removed:
            self.clean_later()
        return removed

    def _depth(self, layer: Layer) -> int:
        depth = 0
        current: Layer | None = layer
        while current is not None and current.parent:
            current = self._layers.get(current.parent)
            depth += 1
        return depth

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
        self._records.delete(layer.chain_id)
        self._unsettled.pop(layer.chain_id, None)
        del self._layers[layer.chain_id]
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
        async with self._locked(key):
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
            self._discard(building)
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
        kept = {layer_key(chain) for chain in self._layers} | set(known_keys)
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
        lost = {c for c in self._layers if layer_key(c) not in present}
        grown = True
        while grown:  # what stands on a lost layer is lost too
            more = {c for c, layer in self._layers.items() if layer.parent in lost} - lost
            lost |= more
            grown = bool(more)
        return [self._layers[chain] for chain in lost]

    def _drop_record(self, layer: Layer) -> str:
        self._records.delete(layer.chain_id)
        self._unsettled.pop(layer.chain_id, None)
        del self._layers[layer.chain_id]
        return f"forgot the layer {layer.chain_id}, whose files are gone"

    def is_init(self, key: str) -> bool:
        """Is this the key of an init layer that may be there?"""
        if key == init_key(None):
            return True
        return key.startswith("init-") and f"sha256:{key[5:]}" in self._layers

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
        self._more_to_clean = True
        if self._cleaning is None or self._cleaning.done():
            self._cleaning = asyncio.get_running_loop().create_task(self._clean())

    async def _clean(self) -> None:
        while self._more_to_clean:
            # A burst of removals is one job of one worker, and off the way of the next start.
            await asyncio.sleep(CLEAN_DELAY)
            self._more_to_clean = False
            try:
                await self.driver.cleanup()
                with open_directory(self._content.root / "ingest") as fd:
                    for name in self._content.leftovers(all_of_them=False):
                        await self._offload("remove_tree", {"name": name}, [fd])
            except (BoxwoodError, OSError) as error:
                log.warning("empty the trash: %s", error)
                return

    async def idle(self) -> None:
        """Wait until nothing is being cleaned."""
        if self._cleaning is not None:
            await asyncio.wait([self._cleaning])

    async def close(self) -> None:
        """Stop cleaning and dropping blobs; the next start goes on with it."""
        await self.blobs.close()
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])

    # Inside

    def _exists(self, key: str) -> bool:
        try:
            self.driver.stat(key)
        except NotFound:
            return False
        return True

    def _discard(self, key: str) -> None:
        try:
            self.driver.remove(key)
        except BoxwoodError as error:
            log.warning("discard the snapshot %s: %s", key, error)
        self.clean_later()

    @asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]


class _Lock:
    """A lock that goes when nobody uses it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def layer_key(chain: str) -> str:
    """Return the snapshot key of a layer."""
    return f"layer-{Digest.parse(chain).hex}"


def init_key(chain: str | None) -> str:
    """Return the snapshot key of the init layer on a layer."""
    return f"init-{Digest.parse(chain).hex}" if chain else "init-scratch"
