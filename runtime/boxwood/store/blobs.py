"""The bytes that layers came as: kept, dropped when they can be made again, and made again.

A layer's files are on disk already; its blob beside them doubles the room that an image takes.
What the tar's bytes can be made of again beside the files is its *recipe* (``docs/layers.md``). A
compressed blob is dropped only after its bytes were made again once and had its digest: what does
not come back the same is kept, whatever the policy. An uncompressed one need not be kept at all if
the pass that unpacked it has accounted for each byte of it (:meth:`LayerBlobs.wants`).

On disk, beside the content store's blobs::

    <content>/recipes/<hex of the chain ID>
    <content>/chunks/<same>                  lists of chunks (:mod:`boxwood.store.chunklists`)

Policies (``keep-blobs``): ``always``; ``until-pushed``: until a registry has it; ``never``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from boxwood.drivers.storage import Offload, StorageDriver, as_boxwood_error, open_directory
from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument, NotFound
from boxwood.faultpoints import fault
from boxwood.model.digest import Digest
from boxwood.model.wire import replace
from boxwood.store.chunklists import ChunkLists
from boxwood.store.piping import opened, read_some
from boxwood.store.records import can_rebuild, layer_key

if TYPE_CHECKING:
    from pathlib import Path

    from boxwood.drivers.storage import Applied
    from boxwood.store.content import ContentStore
    from boxwood.store.records import Layer, LayerRecords

log = logging.getLogger(__name__)

ALWAYS, UNTIL_PUSHED, NEVER = "always", "until-pushed", "never"
POLICIES = (ALWAYS, UNTIL_PUSHED, NEVER)
QUIET = 0.5
"""Seconds without any unpacking before a blob is looked at: the disk is others' until then."""


class LayerBlobs:
    """One instance, the layer store's; in the event loop's thread."""

    def __init__(
        self,
        content: ContentStore,
        driver: StorageDriver,
        offload: Offload,
        policy: str,
        records: LayerRecords,
    ) -> None:
        self._content = content
        self._driver = driver
        self._offload = offload
        self._policy = policy
        self._records = records
        self._waiting: deque[str] = deque()
        self._work: asyncio.Task[None] | None = None
        self.busy = 0
        """How many layers are being unpacked."""
        self.chunks = ChunkLists(content, offload, self.open_tar)
        self._recipes = content.root / "recipes"
        try:
            self._recipes.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise as_boxwood_error("make directory", self._recipes, error) from error

    # Recipes

    @property
    def wanted(self) -> bool:
        """Are recipes to be written?"""
        return self._policy != ALWAYS

    def wants(self, found: Applied, recipe: bool) -> bool:
        """Is the archive of what was just unpacked to be kept, for now at least?

        An uncompressed one is not if its recipe stands for each of its bytes: those of files were
        written to them by the same pass, that made the digest, too. What a compressor makes of
        it is another matter: that is tried first, see :meth:`consider`.
        """
        return self._policy != NEVER or not recipe or found.compression != ""

    def recipe_path(self, chain: str) -> Path:
        """Return where the recipe of a layer is or would be."""
        return self._recipes / Digest.parse(chain).hex

    def adopt_recipe(self, file: Path, chain: str) -> None:
        """Take a file over as a layer's recipe; raises ResourceExhausted, Internal."""
        try:
            file.rename(self.recipe_path(chain))
        except OSError as error:
            raise as_boxwood_error("store recipe", chain, error) from error

    def forget(self, layer: Layer) -> None:
        """Delete what a removed layer had here, unless another layer has the same blob."""
        self.recipe_path(layer.chain_id).unlink(missing_ok=True)
        self.chunks.forget(layer.chain_id)
        self._delete_blob(layer)

    def _delete_blob(self, layer: Layer) -> None:
        others = (
            other
            for other in self._records.all()
            if other.chain_id != layer.chain_id and other.kept
        )
        if layer.blob and not any(other.blob == layer.blob for other in others):
            self._content.delete(Digest.parse(layer.blob))

    def forget_recipe(self, layer: Layer) -> None:
        """The layer's recipe is gone or wrong: nothing is to be made of it any more."""
        self._records.update(replace(layer, recipe=False))
        self.recipe_path(layer.chain_id).unlink(missing_ok=True)

    def give_up(self, layer: Layer) -> None:
        """The layer's blob is gone or wrong: what is there of it goes."""
        self._records.update(replace(layer, kept=False))
        self._content.delete(Digest.parse(layer.blob))

    async def check(self, layer: Layer) -> str:
        """Make what the layer came as, or at least its tar, again; returns what is wrong with it.

        Raises:
            BoxwoodError: it could not be tried.
        """
        whole = can_rebuild(layer)
        compressor, digest = (layer.compressor, layer.blob) if whole else ("", layer.diff_id)
        try:
            async with self._assembled(layer, compressor, digest) as fd:
                await _drain(fd)
        except DataLoss as error:
            return str(error)
        return ""

    def kept(self) -> list[tuple[Layer, int, str]]:
        """Return the layers whose archives are kept: each with its bytes, and why it is."""
        return [
            (layer, layer.stored or self._size_of(layer), self._why_kept(layer))
            for layer in self._records.all()
            if layer.kept and layer.blob
        ]

    def _size_of(self, layer: Layer) -> int:
        try:
            return self._content.size(Digest.parse(layer.blob))
        except NotFound:
            return 0  # fsck says so

    def _why_kept(self, layer: Layer) -> str:
        if self._policy == ALWAYS:
            return "keep-blobs is always"
        if not layer.recipe:
            return "no complete recipe: its bytes cannot be made again of its files"
        if not can_rebuild(layer):
            return f"{layer.compression} of a program whose bytes cannot be made again"
        if not self._droppable(layer):
            return "keep-blobs is until-pushed, and no registry has it"
        return "goes as soon as its bytes were made again once"

    def digests(self) -> set[str]:
        """Return the digests of the blobs that are kept."""
        return {layer.blob for layer in self._records.all() if layer.blob and layer.kept}

    def strays(self) -> list[Path]:
        """Return recipes, and lists of chunks, that belong to no layer."""
        known = {Digest.parse(layer.chain_id).hex for layer in self._records.all() if layer.recipe}
        recipes = [path for path in self._recipes.iterdir() if path.name not in known]
        return recipes + self.chunks.strays([layer.chain_id for layer in self._records.all()])

    async def prove(self, chain: str) -> None:
        """Make the bytes that a layer is said to have come as; if they are those, it came as that.

        Never raises: what cannot be tried stays a claim, what is not true is forgotten.
        """
        layer = self._records.find(chain)
        if layer is None or (claim := layer.claim) is None:
            return
        try:
            async with self._assembled(layer, claim.compressor, claim.blob) as fd:
                wrong = await _drain(fd) != claim.stored
        except (DataLoss, InvalidArgument) as error:
            log.info("layer %s: did not come as %s: %s", layer.diff_id, claim.blob, error)
            wrong = True
        except (BoxwoodError, OSError) as error:
            log.warning("layer %s: cannot try what it came as: %s", layer.diff_id, error)
            return
        now = self._records.find(chain)
        if now is None or now.claim != claim:
            return
        if wrong:
            self._records.update(replace(now, claim=None))
            return
        # The record first: a blob that nobody claims is collected at the next start.
        self._records.update(
            replace(
                now,
                blob=claim.blob,
                kept=False,
                stored=claim.stored,
                compression=claim.compression,
                compressor=claim.compressor,
                claim=None,
            )
        )
        if now.kept:
            self._delete_blob(now)

    # Bytes

    def has_bytes(self, layer: Layer) -> bool:
        """Are the bytes that the layer came as here, or can they be made again?"""
        return (bool(layer.blob) and layer.kept) or can_rebuild(layer)

    @asynccontextmanager
    async def open_blob(self, layer: Layer) -> AsyncIterator[tuple[int, int]]:
        """``async with store.open_blob(layer) as (fd, size)``: the bytes that the layer came as.

        A file, or a pipe that they are written to as they are made again; in that case what is
        wrong is raised at the end, when all has been read.

        Raises:
            NotFound: nobody has them.
            DataLoss: they could not be made again.
        """
        now = self._records.find(layer.chain_id) or layer  # it may have been dropped meanwhile
        if layer.blob == layer.diff_id != now.blob:
            # It is known meanwhile what it came as: what is asked for here are its tar's bytes.
            async with self.open_tar(now) as found:
                yield found
            return
        layer = now
        if layer.blob and layer.kept:
            digest = Digest.parse(layer.blob)
            fd = self._content.open(digest)
            try:
                yield fd, self._content.size(digest)
            finally:
                os.close(fd)
            return
        if not can_rebuild(layer):
            raise NotFound(f"layer: {layer.diff_id}: its bytes are not kept, only its files")
        async with self._assembled(layer, layer.compressor, layer.blob) as fd:
            yield fd, layer.stored

    @asynccontextmanager
    async def open_tar(self, layer: Layer) -> AsyncIterator[tuple[int, int]]:
        """Likewise, the tar itself, whose digest is the diff ID."""
        layer = self._records.find(layer.chain_id) or layer
        if not layer.compression and layer.blob:
            async with self.open_blob(layer) as found:
                yield found
        elif layer.recipe and layer.tar_size:
            async with self._assembled(layer, "", layer.diff_id) as fd:
                yield fd, layer.tar_size
        else:
            size = layer.tar_size or await self._measure(layer)
            async with self._plain(layer) as fd:
                yield fd, size

    async def _measure(self, layer: Layer) -> int:
        """Decompress once, to learn the size: of a layer from before it was recorded."""
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            async with self.open_blob(layer) as (source, _):
                found = await self._offload("plain_layer", {}, [source, null])
        finally:
            os.close(null)
        if found["digest"] != layer.diff_id:
            raise DataLoss(f"layer: {layer.diff_id}: its blob holds {found['digest']}")
        self._records.update(replace(layer, tar_size=found["size"]))
        return int(found["size"])

    @asynccontextmanager
    async def _plain(self, layer: Layer) -> AsyncIterator[int]:
        async with self.open_blob(layer) as (source, _):

            async def work(sink: int) -> None:
                found = await self._offload("plain_layer", {}, [source, sink])
                if found["digest"] != layer.diff_id:
                    raise DataLoss(f"layer: {layer.diff_id}: its blob holds {found['digest']}")

            async with opened(work) as fd:
                yield fd

    @asynccontextmanager
    async def _assembled(self, layer: Layer, compressor: str, digest: str) -> AsyncIterator[int]:
        async with AsyncExitStack() as stack:
            recipe = self._open_recipe(layer)
            stack.callback(os.close, recipe)
            tree = await self._open_tree(layer, stack)
            arguments = {"compressor": compressor, "digest": digest, "size": layer.tar_size}

            async def work(sink: int) -> None:
                await self._offload("assemble_layer", arguments, [recipe, tree, sink])

            yield await stack.enter_async_context(opened(work))

    def _open_recipe(self, layer: Layer) -> int:
        try:
            return os.open(self.recipe_path(layer.chain_id), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataLoss(f"layer: {layer.diff_id}: recipe: {error.strerror}") from error

    async def _open_tree(self, layer: Layer, stack: AsyncExitStack) -> int:
        key = layer_key(layer.chain_id)
        branch = self._driver.branch(key)
        if branch is not None:
            return stack.enter_context(open_directory(branch.path))
        return await stack.enter_async_context(self._driver.opened(key))

    # Dropping

    def pushed(self, blob: str) -> None:
        """A registry has this blob now: the policy ``until-pushed`` is done with it."""
        for layer in self._records.all():
            if layer.blob == blob and not layer.pushed:
                self._records.update(replace(layer, pushed=True))
                self.consider(layer.chain_id)

    def consider(self, chain: str) -> None:
        """Drop the layer's blob in a quiet moment, if the policy says so and it can come back."""
        if self._policy == ALWAYS:
            return
        self._waiting.append(chain)
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._drop_all())

    def consider_all(self) -> None:
        """After a start: go on where the last daemon was."""
        for layer in self._records.all():
            if layer.claim is not None or self._droppable(layer):
                self.consider(layer.chain_id)

    def _droppable(self, layer: Layer) -> bool:
        done = self._policy == NEVER or (self._policy == UNTIL_PUSHED and layer.pushed)
        return done and layer.kept and can_rebuild(layer)

    async def _drop_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(QUIET)
            if self.busy:
                continue
            chain = self._waiting.popleft()
            await self.prove(chain)
            layer = self._records.find(chain)
            if layer is None or not self._droppable(layer):
                continue
            try:
                await self._drop(layer)
            except (BoxwoodError, OSError) as error:
                log.warning("layer %s: its blob stays: %s", layer.diff_id, error)

    async def _drop(self, layer: Layer) -> None:
        """Make the blob's bytes again; only when they are the same it goes."""
        if wrong := await self.check(layer):
            if (
                now := self._records.find(layer.chain_id)
            ) is not None:  # else it was removed meanwhile
                log.info("layer %s: its blob is kept: %s", layer.diff_id, wrong)
                self.forget_recipe(now)
            return
        fault("drop.verified")
        now = self._records.find(layer.chain_id)
        if now is None or not self._droppable(now):
            return
        # The record first: a blob that nobody claims is collected at the next start.
        self._records.update(replace(now, kept=False))
        fault("drop.recorded")
        self._delete_blob(now)

    async def idle(self) -> None:
        """Wait until nothing is being dropped."""
        if self._work is not None:
            await asyncio.wait([self._work])

    async def close(self) -> None:
        """Stop; the next start goes on."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])


async def _drain(fd: int) -> int:
    """Read a pipe to its end, and throw away what comes; returns how many bytes it was."""
    size = 0
    while piece := await read_some(fd):
        size += len(piece)
    return size
