"""What is known of the layers that are here: one record for each.

A layer is *fresh* until it is on disk for certain (:meth:`LayerStore.settle`): it is seen by all,
but has no record yet that a start would find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import DataLoss, InvalidArgument, NotFound
from boxwood.model.digest import Digest
from boxwood.model.wire import Wire, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from boxwood.store.database import Database


class Claim(Wire):
    """What somebody says that a layer came as: not tried yet. Fields as those of :class:`Layer`."""

    blob: str
    stored: int
    compression: str
    compressor: str

    def is_credible(self, tar_size: int) -> bool:
        """Does it name a digest, and a size that a compressor may make of a tar of ``tar_size``?"""
        try:
            Digest.parse(self.blob)
        except InvalidArgument:
            return False
        return 0 < self.stored <= 2 * tar_size + 4096


class Layer(Wire):
    """A layer that is here."""

    chain_id: str
    diff_id: str
    parent: str = ""
    """Chain ID of the layer below, empty for the lowest."""
    size: int = 0
    """Bytes of its files, unpacked."""
    blob: str = ""
    """Digest of the tar as it came (compressed or not), empty: nobody knows."""
    kept: bool = True
    """Is the blob in the content store? If not, it is made again."""
    stored: int = 0
    """Bytes of the blob, 0: what the content store says."""
    tar_size: int = 0
    """Bytes of the tar, 0: not known (a layer from before there were recipes)."""
    compression: str = ""
    compressor: str = ""
    """What makes the blob's very bytes of the tar; empty, for a compressed one: nothing does."""
    recipe: bool = False
    """Is there a recipe, not known to be wrong?"""
    pushed: bool = False
    """Has a registry had it?"""
    packed: str = ""
    """Digest of the tar as we compress it for a registry, empty: never done."""
    packed_size: int = 0
    packed_as: str = "gzip"
    """By what, as ``push-compression`` writes it."""
    claim: Claim | None = None


def can_rebuild(layer: Layer) -> bool:
    """May the layer's blob be made again?"""
    return layer.recipe and bool(layer.blob) and (not layer.compression or bool(layer.compressor))


class LayerRecords:
    """One instance, the layer store's; in the event loop's thread."""

    def __init__(self, database: Database) -> None:
        """Raises DataLoss: a record is broken."""
        self._database = database
        self._records = database.records("layers")
        self._layers: dict[str, Layer] = {}
        self._fresh: set[str] = set()
        for _, body in self._records.load_all():
            try:
                layer = msgspec.json.decode(body, type=Layer)
            except msgspec.MsgspecError as error:
                raise DataLoss(f"layers: a record is broken: {error}") from error
            self._layers[layer.chain_id] = layer

    def find(self, chain: str) -> Layer | None:
        """Return a layer, None: it is not here."""
        return self._layers.get(chain)

    def get(self, chain: str) -> Layer:
        """Return a layer; raises NotFound."""
        layer = self._layers.get(chain)
        if layer is None:
            raise NotFound(f"layer: {chain}: no such layer")
        return layer

    def __contains__(self, chain: str) -> bool:
        return chain in self._layers

    def all(self) -> list[Layer]:
        """Return all layers, in no order."""
        return list(self._layers.values())

    def topmost_first(self) -> list[Layer]:
        """Return all layers, each before the one that it stands on."""
        return sorted(self._layers.values(), key=self._depth, reverse=True)

    def _depth(self, layer: Layer) -> int:
        depth = 0
        current: Layer | None = layer
        while current is not None and current.parent:
            current = self._layers.get(current.parent)
            depth += 1
        return depth

    def is_parent(self, chain: str) -> bool:
        """Does another layer stand on it?"""
        return any(other.parent == chain for other in self._layers.values())

    def with_descendants(self, chains: Collection[str]) -> list[Layer]:
        """Return those of ``chains`` that are here, and all layers that stand on one of them."""
        found = {chain for chain in chains if chain in self._layers}
        grown = True
        while grown:
            more = {c for c, layer in self._layers.items() if layer.parent in found} - found
            found |= more
            grown = bool(more)
        return [self._layers[chain] for chain in found]

    def add(self, layer: Layer) -> None:
        """Show a fresh layer."""
        self._fresh.add(layer.chain_id)
        self._layers[layer.chain_id] = layer

    def update(self, layer: Layer) -> None:
        """Take another version of a layer's record over; a fresh one has none yet."""
        if layer.chain_id not in self._fresh:
            self._records.put(layer.chain_id, encode(layer))
        self._layers[layer.chain_id] = layer

    def fresh(self, chains: Iterable[str]) -> list[str]:
        """Return those of ``chains`` that are fresh, in their order."""
        return [chain for chain in chains if chain in self._fresh]

    def settle(self, chains: Collection[str]) -> None:
        """Record fresh layers, in one transaction; raises NotFound: one of them is not here."""
        with self._database.transaction():
            for chain in chains:
                self._records.put(chain, encode(self.get(chain)))
        self._fresh.difference_update(chains)

    def drop(self, chain: str) -> None:
        """Forget a layer that is here."""
        self._records.delete(chain)
        self._fresh.discard(chain)
        del self._layers[chain]


def layer_key(chain: str) -> str:
    """Return the snapshot key of a layer."""
    return f"layer-{Digest.parse(chain).hex}"


def init_key(chain: str | None) -> str:
    """Return the snapshot key of the init layer on a layer."""
    return f"init-{Digest.parse(chain).hex}" if chain else "init-scratch"
