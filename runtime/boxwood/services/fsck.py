"""Records and disk compared, both ways: ``system fsck``.

Looked at are the snapshots of layers and containers, the kept archives (read, and their digest
computed), the recipes, the images' configs, and whatever is there for nobody. With ``deep`` each
layer's tar is made again of its files and its recipe, which reads all files.

The engine goes on serving meanwhile. What is under way looks like damage for a moment: a finding
counts when a second look, a little later, has it too, and nothing is called an orphan while a
layer is being unpacked or an image is being made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.storage import Kind, SnapshotInfo
from boxwood.errors import BoxwoodError, DataLoss, NotFound, TooLarge
from boxwood.model.descriptor import DOCUMENT_LIMIT
from boxwood.model.digest import Digest
from boxwood.services.images.catalog import familiar
from boxwood.store.layers import LayerStore
from boxwood.store.records import Layer, can_rebuild, layer_key

if TYPE_CHECKING:
    from boxwood.services.images import ImagesService

SECOND_LOOK = 0.5
"""Seconds until what looks wrong is looked at again."""
PASSING = ("unpack-", "look-")
"""Snapshots that live for a moment; the next start removes what a crash left of them."""


class Finding(msgspec.Struct, frozen=True, rename="pascal"):
    """Something that is not as it should be."""

    kind: str
    """``layer-lost``, ``orphan-blob`` and so on: a word for programs."""
    object: str
    """Its name: a layer's chain ID, a snapshot's key, a digest, an id."""
    detail: str
    advice: str = ""
    """What a person can do about it, where a repair cannot bring back what is lost."""
    repaired: bool = False


class Report(msgspec.Struct, frozen=True, rename="pascal"):
    """What was looked at, and what was found."""

    findings: list[Finding]
    layers: int
    blobs: int
    recipes: int
    images: int
    containers: int
    complete: bool
    """False: something was being loaded, so that orphans were not looked for."""


class Fsck:
    """One check; made for it, used once."""

    def __init__(
        self,
        images: ImagesService,
        snapshots: Callable[[], Mapping[str, str]],
    ) -> None:
        """``snapshots``: the keys of all containers' snapshots and their ids.

        A container that is being made counts with the key that it will have, and an empty id.
        """
        self._images = images
        self._layers: LayerStore = images.layers
        self._content = images.content
        self._snapshots = snapshots
        self._blobs = 0
        self._complete = True

    async def run(self, *, deep: bool = False, repair: bool = False) -> Report:
        """Look, and with ``repair`` put right what can be; raises what the driver raises."""
        found = list(self._quick())
        if found:
            await asyncio.sleep(SECOND_LOOK)
            before = {(finding.kind, finding.object) for finding in found}
            found = [entry for entry in self._quick() if (entry.kind, entry.object) in before]
        if repair:
            found = self._repair_all(found)
        for look in (self._blob, self._deep) if deep else (self._blob,):
            for chain in self._chains():
                # One after the other: the disk is others' too.
                if (finding := await look(chain, repair)) is not None:
                    found.append(finding)
        layers = self._layers.all()
        return Report(
            found,
            layers=len(layers),
            blobs=self._blobs,
            recipes=sum(layer.recipe for layer in layers),
            images=len(self._images.catalog.all()),
            containers=sum(bool(key) for key in self._snapshots().values()),
            complete=self._complete,
        )

    def _chains(self) -> list[str]:
        return sorted(layer.chain_id for layer in self._layers.all())

    # What needs no reading; without an await, so that it sees one moment

    def _quick(self) -> Iterator[Finding]:
        infos = self._layers.driver.survey()
        for layer in self._layers.lost():
            yield Finding(
                "layer-lost", layer.chain_id, "its files are gone", self._again(layer.chain_id)
            )
        for layer in self._layers.all():
            info = infos.get(layer_key(layer.chain_id))
            below = layer_key(layer.parent) if layer.parent else None
            if info is not None and info.parent != below:
                yield Finding(
                    "layer-moved",
                    layer.chain_id,
                    f"its snapshot stands on {info.parent}, not on {below}",
                    self._anew(layer.chain_id),
                )
            if layer.recipe and not self._layers.blobs.recipe_path(layer.chain_id).exists():
                yield Finding("recipe-lost", layer.chain_id, "its recipe is gone")
        for key, container in self._snapshots().items():
            info = infos.get(key)
            if container and (info is None or info.kind is not Kind.ACTIVE):
                yield Finding(
                    "container-lost",
                    container,
                    "its files are gone",
                    f"boxwood rm {container[:12]}",
                )
        for image, reason in self._images.catalog.unusable.items():
            yield Finding(
                "image-unusable", image, reason, "load or pull it again, or remove it by its id"
            )
        yield from self._configs()
        self._complete = self._images.quiet()
        if self._complete:
            yield from self._orphans(_children_first(infos))

    def _orphans(self, keys: list[str]) -> Iterator[Finding]:
        known = {layer_key(layer.chain_id) for layer in self._layers.all()}
        known.update(self._snapshots())
        for key in keys:
            if key in known or key.startswith(PASSING) or self._layers.is_init(key):
                continue
            yield Finding("orphan-snapshot", key, "nothing refers to it")
        for stray in self._layers.blobs.strays():
            yield Finding("orphan-recipe", stray.name, "it belongs to no layer")
        for path in self._content.foreign():
            yield Finding("foreign-file", path, "it is none of the engine's", "remove it by hand")
        for digest in self._images.stray_blobs():
            yield Finding("orphan-blob", str(digest), "nothing refers to it")

    def _configs(self) -> Iterator[Finding]:
        for image in self._images.catalog.all():
            try:
                self._content.read(Digest.parse(image.id), DOCUMENT_LIMIT)
            except (DataLoss, NotFound, TooLarge) as error:
                yield Finding(
                    "config-broken", image.id, str(error), "--repair, or load or pull it again"
                )

    def _again(self, chain: str) -> str:
        users = self._users(chain)
        return f"load or pull again: {users}" if users else ""

    def _anew(self, chain: str) -> str:
        """What is here is not taken a second time: it has to go first."""
        users = self._users(chain) or "nobody"
        return f"remove what stands on it, and load or pull it again: {users}"

    def _users(self, chain: str) -> str:
        found = sorted(
            familiar(image.tags[0]) if image.tags else image.id
            for image in self._images.catalog.all()
            if chain in image.chain_ids
        )
        return ", ".join(found)

    # Repair of that

    def _repair_all(self, found: list[Finding]) -> list[Finding]:
        """Repair, and then what only that has shown: what stood on a lost layer."""
        done = [self._repair(finding) for finding in found]
        if any(finding.kind == "layer-lost" for finding in done):
            seen = {(finding.kind, finding.object) for finding in done}
            more = [entry for entry in self._quick() if (entry.kind, entry.object) not in seen]
            done += [self._repair(finding) for finding in more]
        return done

    def _repair(self, finding: Finding) -> Finding:
        repairs: dict[str, Callable[[str], bool]] = {
            "layer-lost": self._forget_lost,
            "recipe-lost": self._forget_recipe,
            "config-broken": self._restore_config,
            "orphan-snapshot": self._remove_snapshot,
            "orphan-recipe": self._remove_recipe,
            "orphan-blob": self._remove_blob,
        }
        work = repairs.get(finding.kind)
        if work is None:
            return finding
        try:
            return msgspec.structs.replace(finding, repaired=work(finding.object))
        except BoxwoodError as error:
            return msgspec.structs.replace(finding, detail=f"{finding.detail}; repair: {error}")

    def _forget_lost(self, chain: str) -> bool:
        keys = [layer_key(layer.chain_id) for layer in self._layers.lost()]
        self._layers.driver.resync(keys)
        self._layers.forget_lost()
        # Images that stood on it are unusable from now on, and say so.
        self._images.catalog.load()
        return not self._layers.has(chain)

    def _forget_recipe(self, chain: str) -> bool:
        self._layers.blobs.forget_recipe(self._layers.get(chain))
        return True

    def _restore_config(self, key: str) -> bool:
        """Write it again as it was when the engine started."""
        image = self._images.catalog.by_id(key)
        return image is not None and self._content.put(image.document) == key

    def _remove_snapshot(self, key: str) -> bool:
        self._layers.driver.resync([key])
        self._layers.driver.remove(key)
        self._layers.clean_later()
        return True

    def _remove_recipe(self, name: str) -> bool:
        for path in self._layers.blobs.strays():
            if path.name == name:
                path.unlink(missing_ok=True)
        return True

    def _remove_blob(self, digest: str) -> bool:
        self._content.delete(Digest.parse(digest))
        return True

    # What is read

    async def _blob(self, chain: str, repair: bool) -> Finding | None:
        """Read a layer's archive, if it is kept, and compare its digest."""
        layer = self._kept(chain)
        if layer is None:
            return None
        try:
            wrong = await self._content_of(Digest.parse(layer.blob))
            kind = "blob-broken"
        except NotFound:
            wrong, kind = "it is gone", "blob-lost"
        layer = self._kept(chain)
        if layer is None:
            return None  # it was dropped meanwhile, or the layer was removed
        self._blobs += 1
        if not wrong:
            return None
        finding = Finding(kind, layer.blob, f"the archive of the layer {layer.diff_id}: {wrong}")
        return await self._repair_blob(finding, layer) if repair else finding

    def _kept(self, chain: str) -> Layer | None:
        if not self._layers.has(chain):
            return None
        layer = self._layers.get(chain)
        return layer if layer.blob and layer.kept else None

    async def _content_of(self, digest: Digest) -> str:
        fd = self._content.open(digest)
        try:
            found = await self._images.offload("hash_file", {"algorithm": digest.algorithm}, [fd])
        finally:
            os.close(fd)
        return "" if found["digest"] == digest else f"it has the digest {found['digest']}"

    async def _repair_blob(self, finding: Finding, layer: Layer) -> Finding:
        """Let the broken archive go; what can be made again is not lost."""
        rebuilt = can_rebuild(layer) and not await self._layers.blobs.check(layer)
        self._layers.blobs.give_up(layer)
        advice = "" if rebuilt else "remove the image and load or pull it again, to save or push it"
        return msgspec.structs.replace(finding, repaired=True, advice=advice)

    async def _deep(self, chain: str, repair: bool) -> Finding | None:
        """Make a layer's tar, or what it came as, again of its files."""
        if not self._layers.has(chain) or not self._layers.get(chain).recipe:
            return None
        wrong = await self._layers.blobs.check(self._layers.get(chain))
        if not wrong or not self._layers.has(chain):
            return None
        layer = self._layers.get(chain)
        advice = "its files or its recipe are not what was unpacked"
        if not layer.kept:
            advice += "; remove the images that have it, and load or pull them again"
        if repair:
            self._layers.blobs.forget_recipe(layer)
        return Finding("layer-changed", chain, wrong, advice, repaired=repair)


def _children_first(infos: Mapping[str, SnapshotInfo]) -> list[str]:
    """Return the keys in the order in which they could be removed."""

    def depth(key: str | None) -> int:
        count = 0
        while key is not None and key in infos and count <= len(infos):
            key = infos[key].parent
            count += 1
        return count

    return sorted(infos, key=depth, reverse=True)
