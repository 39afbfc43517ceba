"""How a layer's tar becomes a layer: a snapshot that is made, verified, and only then committed."""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.storage import Applied, ApplyRequest, as_boxwood_error
from boxwood.errors import BoxwoodError
from boxwood.faultpoints import fault
from boxwood.model.digest import Digest, chain_id
from boxwood.store.records import Layer, layer_key

if TYPE_CHECKING:
    from pathlib import Path

    from boxwood.drivers.storage import StorageDriver
    from boxwood.store.ahead import Begun
    from boxwood.store.blobs import LayerBlobs
    from boxwood.store.content import ContentStore
    from boxwood.store.locks import KeyedLocks
    from boxwood.store.records import LayerRecords
    from boxwood.store.trash import Trash

log = logging.getLogger(__name__)

ENTRIES_LIMIT = 2_000_000
"""Entries of one layer: twenty times the largest images seen."""
BYTES_LIMIT = 1 << 40
"""Bytes of one layer unpacked; the disk is the real limit, and says so."""


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


class Unpacker:
    """One instance, the layer store's; in the event loop's thread."""

    def __init__(
        self,
        driver: StorageDriver,
        content: ContentStore,
        records: LayerRecords,
        blobs: LayerBlobs,
        trash: Trash,
        locks: KeyedLocks,
        limits: LayerLimits,
    ) -> None:
        """``locks``: by chain ID, held while that layer is being made."""
        self._driver = driver
        self._content = content
        self._records = records
        self._blobs = blobs
        self._trash = trash
        self._locks = locks
        self.limits = limits
        """What one layer may be at most."""

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
        async with self._locks.hold(chain):
            if chain in self._records:
                if begun is not None:
                    begun.stop()
                return Unpacked(self._records.get(chain), False)
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
        self._blobs.busy += 1
        try:
            await self._driver.prepare(key, None)
            try:
                found = await self._apply(key, source, diff_id, digest, recipe, growing)
            except BaseException:
                self._trash.discard(key)
                recipe.unlink(missing_ok=True)
                raise
        finally:
            self._blobs.busy -= 1
        fault("load.ahead")
        return Loose(key, recipe, found)

    def discard_loose(self, made: Loose) -> None:
        """Throw away what nobody wants."""
        self._trash.discard(made.key)
        made.recipe.unlink(missing_ok=True)

    async def _use(
        self, made: Loose, parent: Digest | None, diff_id: str, digest: str, keep: Path | None
    ) -> Unpacked | None:
        """Make it the layer that is wanted; None, and it is gone: it cannot be that."""
        self._blobs.busy += 1
        try:
            # Of a file that was still being written to, no more is known than what was read.
            whole = keep is None or keep.stat().st_size == made.found.stored
            if whole and await self._fits(made, parent, diff_id, digest):
                return await self._finish(made.key, parent, made.found, keep, made.recipe)
        except BaseException:
            self._trash.discard(made.key)
            raise
        finally:
            self._blobs.busy -= 1
            made.recipe.unlink(missing_ok=True)
        self._trash.discard(made.key)
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
            await self._driver.rebase(made.key, layer_key(parent))
            fault("load.rebased")
            if found.implied:
                await self._driver.adopt(made.key, found.implied)
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
        self._blobs.busy += 1
        try:
            await self._driver.prepare(key, layer_key(parent) if parent is not None else None)
            try:
                found = await self._apply(key, source, diff_id, digest, recipe)
                return await self._finish(key, parent, found, keep, recipe)
            except BaseException:
                self._trash.discard(key)
                raise
        finally:
            self._blobs.busy -= 1
            recipe.unlink(missing_ok=True)

    async def _apply(
        self, key: str, source: int, diff_id: str, digest: str, recipe: Path, growing: int = -1
    ) -> Applied:
        limits = self.limits
        request = ApplyRequest(
            diff_id,
            digest,
            limits.size,
            limits.entries,
            limits.ratio,
            limits.name,
            growing=growing,
        )
        if not self._blobs.wanted:
            return await self._driver.apply(key, source, request)
        try:
            fd = os.open(recipe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise as_boxwood_error("unpack layer", recipe.name, error) from error
        try:
            wanted = msgspec.structs.replace(request, recipe=fd)
            return await self._driver.apply(key, source, wanted)
        finally:
            os.close(fd)

    async def _finish(
        self, key: str, parent: Digest | None, found: Applied, keep: Path | None, recipe: Path
    ) -> Unpacked:
        """Make an unpacked snapshot a layer, unless there is that layer by now."""
        has_recipe = found.recipe and recipe.exists()
        known = keep is not None
        if not self._blobs.wants(found, has_recipe):
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
        if layer.chain_id in self._records:
            self._trash.discard(key)
            return Unpacked(self._records.get(layer.chain_id), False)
        if keep is not None:
            self._content.adopt(keep, Digest.parse(layer.blob))
        if layer.recipe:
            self._blobs.adopt_recipe(recipe, layer.chain_id)
        await self._driver.commit(key, layer_key(layer.chain_id))
        self._records.add(layer)
        fault("load.unpacked")
        return Unpacked(layer, True)
