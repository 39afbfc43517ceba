"""The images service: what the API and the other services ask of images."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from boxwood.errors import InvalidArgument
from boxwood.model.digest import Digest
from boxwood.model.image import Image
from boxwood.model.platform import Platform
from boxwood.model.reference import target_name
from boxwood.services.images import views
from boxwood.services.images.catalog import Catalog
from boxwood.services.images.committing import Commit, CommitRequest
from boxwood.services.images.filters import matching
from boxwood.services.images.importing import Import
from boxwood.services.images.loading import Load
from boxwood.services.images.peers.sessions import Peers
from boxwood.services.images.removal import InUse, Publish, Removal
from boxwood.services.images.saving import Save
from boxwood.services.images.shipping import Registries, Shipping

if TYPE_CHECKING:
    from boxwood.store.content import ContentStore
    from boxwood.store.database import Database
    from boxwood.store.layers import LayerStore

log = logging.getLogger(__name__)

_PRUNE_FILTERS = frozenset(("label", "label!", "until"))

Emit = Callable[[dict[str, Any]], object]
"""Takes one message of a progress stream (``{"stream": ...}``, ``{"status": ...}``)."""


class Workers(Protocol):
    """What the service needs of the worker processes."""

    async def offload(
        self, job: str, arguments: Mapping[str, Any], fds: Sequence[int]
    ) -> dict[str, Any]:
        """Run a job with its usual deadline."""


class Events(Protocol):
    """What the service needs of the event bus."""

    def publish(
        self, type: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None
    ) -> object:
        """Tell everybody."""


def _nobody(image_id: str) -> Sequence[Any]:
    del image_id
    return ()


def _silent(*_: object) -> None:
    return None


class ImagesService:
    """All there is to do with images. One instance, in the event loop's thread."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        layers: LayerStore,
        workers: Workers,
        events: Events,
        registries: Registries = Registries(),  # noqa: B008 - immutable
    ) -> None:
        self.content = content
        self.layers = layers
        self.offload = workers.offload
        self.publish: Publish = events.publish
        self.in_use: InUse = _nobody
        """Returns the containers that use an image; the containers service sets it."""
        self.catalog = Catalog(database, content, layers)
        self.shipping = Shipping(self, registries)
        """Images from and to registries and files."""
        self._leases: Counter[str] = Counter()
        self.peers = Peers(self)
        """Images from and to other Boxwoods."""
        layers.needed = self._needed
        self.catalog.load()

    async def reconcile(self) -> builtins.list[str]:
        """Put right what crashes left, after the layers' own; returns what was done."""
        done = self.catalog.load()
        done += [f"removed the unused layer {diff_id}" for diff_id in self._drop_layers()]
        done += self._drop_blobs()
        done += self.shipping.downloads.sweep({layer.blob for layer in self.layers.all()})
        directory = self.content.root / "ingest"
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self.content.leftovers(all_of_them=True):
                await self.offload("remove_tree", {"name": name}, [fd])
                done.append(f"removed the unfinished download {name}")
        finally:
            os.close(fd)
        return done

    # Looking

    def get(self, ref: str) -> Image:
        """Return an image by id, name or prefix of an id; NotFound ``No such image: X``."""
        return self.catalog.get(ref)

    def check_platform(self, ref: str, wanted: Platform, *, every: bool = False) -> None:
        """Have an image be one for a platform: each that is here is for one alone.

        ``every``: a name without a tag stands for all tags of the repository.

        Raises:
            NotFound: no such image, or it is for another platform.
        """
        images = self.list({"reference": (ref,)}, all=True) if every else []
        for image in images or [self.get(ref)]:
            image.check_platform(ref, wanted)

    def list(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, all: bool = False
    ) -> builtins.list[Image]:
        """Return the images that pass the filters, newest first.

        Without ``all``, images that have no name and that others were built on are left out.

        Raises:
            InvalidArgument: an unknown filter.
        """
        found = matching(self.catalog.all(), filters or {}, self.get)
        if not all:
            found = [image for image in found if not self._intermediate(image)]
        return sorted(found, key=lambda image: (views.created_seconds(image), image.id))[::-1]

    def _intermediate(self, image: Image) -> bool:
        named = image.tags or image.digests
        return not named and any(True for _ in self.catalog.children(image.id))

    def summary(self, image: Image) -> dict[str, Any]:
        """Return an entry of ``GET /images/json``, newest form."""
        return views.summary(image)

    def inspect(self, ref: str) -> dict[str, Any]:
        """Return the answer of ``GET /images/{name}/json``, newest form; raises NotFound."""
        return views.inspect(self.get(ref), self.layers.driver.name)

    def history(self, ref: str) -> builtins.list[dict[str, Any]]:
        """Return the answer of ``GET /images/{name}/history``, newest first; raises NotFound."""
        return views.history(self.get(ref), self.layers, self.catalog.by_id)

    # Changing

    def tag(self, ref: str, repo: str, tag: str = "") -> None:
        """Give an image another name.

        Raises:
            NotFound: no such image.
            InvalidArgument: the name is none.
            PermissionDenied: it may not be given here.
        """
        image = self.get(ref)
        reference = target_name(repo, tag)
        self.shipping.policy.check("tag", reference)
        self.catalog.tag(image, reference)
        self.publish("image", "tag", image.id, {"name": reference.familiar})

    def remove(
        self, ref: str, force: bool = False, noprune: bool = False
    ) -> builtins.list[dict[str, str]]:
        """Remove a name or an image; returns ``Untagged`` and ``Deleted`` entries.

        An image that cannot be used any more is removed by its whole id.

        Raises:
            NotFound, Conflict
        """
        key = f"sha256:{ref.removeprefix('sha256:')}"
        if key in self.catalog.unusable:
            self.catalog.forget_unusable(key)
            self._drop_layers()
            return [{"Deleted": key}]
        removal = Removal(self.catalog, self.in_use, self.publish, self._drop_layers)
        return removal.run(ref, force=force, prune=not noprune)

    async def load(self, stream: AsyncIterator[bytes], emit: Emit) -> builtins.list[Image]:
        """Load images from an archive as ``docker save`` or an OCI tool wrote it.

        Messages are Docker's (``Loaded image: ...``). What was loaded whole before an error
        stays; of the rest nothing is left.

        Raises:
            InvalidArgument, TooLarge, NotFound, ResourceExhausted, DeadlineExceeded
            PermissionDenied: a name that nothing from an archive may get; nothing was loaded.
        """
        return await Load(self, emit).run(stream)

    async def commit(self, request: CommitRequest) -> Image:
        """Make an image of what a snapshot changes in the image it stands on.

        Raises:
            NotFound, ResourceExhausted, Unsupported (the driver cannot tell the changes)
            PermissionDenied: the name may not be given here.
        """
        if request.name is not None:
            self.shipping.policy.check("tag", request.name)
        return await Commit(self, request).run()

    def save(self, refs: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of one archive of images: Docker's shape and the OCI layout at once.

        Args:
            refs: names with a tag (just that), without one (all tags of it), ids (no name).

        Raises, at once:
            NotFound: ``No such image: X``.
        """
        return Save(self, refs).run()

    async def import_(
        self,
        stream: AsyncIterator[bytes],
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
        emit: Emit = _silent,
        source: str = "-",
    ) -> Image:
        """Make an image of one layer from the tar of a file tree; emits its id as ``status``.

        Raises:
            InvalidArgument, TooLarge, ResourceExhausted, DeadlineExceeded
            PermissionDenied: a name that nothing from a tar may get.
        """
        if "@" in repo:
            raise InvalidArgument("cannot import digest reference")
        name = target_name(repo, tag) if repo else None
        if name is not None:
            self.shipping.policy.unsigned(name, "the tar of a file tree bears none")
        job = Import(self, name, message or f"Imported from {source}", changes, platform)
        image = await job.run(stream)
        emit({"status": image.id})
        return image

    def prune(
        self, filters: Mapping[str, Sequence[str]] | None = None, *, dangling: bool = True
    ) -> tuple[builtins.list[dict[str, str]], int]:
        """Remove images that no container uses: without a name, or with ``dangling`` off all.

        Args:
            filters: ``label``, ``label!``, ``until``.
            dangling: only those that have no name.

        Returns:
            ``Untagged`` and ``Deleted`` entries, and the bytes of the layers that went.

        Raises:
            InvalidArgument: another filter.
        """
        for key in filters or {}:
            if key not in _PRUNE_FILTERS:
                raise InvalidArgument(f"invalid filter '{key}'")
        done: builtins.list[dict[str, str]] = []
        before = self.layers.total_size()
        for image in matching(self.catalog.all(), filters or {}, self.get):
            if (dangling and (image.tags or image.digests)) or self.in_use(image.id):
                continue
            if self.catalog.by_id(image.id) is None or any(self.catalog.children(image.id)):
                continue
            done += self.remove(image.id, force=True)
        freed = before - self.layers.total_size()
        self.publish("image", "prune", "", {"reclaimed": str(freed)})
        return done, freed

    def shared_sizes(self) -> tuple[dict[str, int], int]:
        """Return the bytes of each image's layers that others have too, and of all layers."""
        users = Counter(chain for image in self.catalog.all() for chain in image.chain_ids)
        shared = {
            image.id: self.layers.size(chain for chain in image.chain_ids if users[chain] > 1)
            for image in self.catalog.all()
        }
        return shared, self.layers.total_size()

    # For all that make images

    @contextmanager
    def lease(self, chains: Iterable[str]) -> Iterator[None]:
        """Keep these layers while an image that needs them is being made."""
        held = tuple(chains)
        self._leases.update(held)
        try:
            yield
        finally:
            self._leases.subtract(held)
            for chain in held:
                if self._leases[chain] <= 0:
                    del self._leases[chain]

    @contextmanager
    def undoing(self, document: bytes) -> Iterator[None]:
        """Leave nothing of an image that cannot be made whole: not its config, not its layers.

        Args:
            document: its config.
        """
        try:
            yield
        except BaseException:
            if self.catalog.by_id(digest := Digest.of(document)) is None:
                self.content.delete(digest)
            # The maker's own lease still holds the layers; what comes after it takes them.
            asyncio.get_running_loop().call_soon(self.drop_unused)
            raise

    def drop_unused(self) -> None:
        """Remove layers that no image, lease or container needs."""
        self._drop_layers()

    def _needed(self) -> set[str]:
        return self.catalog.chains() | set(self._leases)

    def _drop_layers(self) -> builtins.list[str]:
        if self.catalog.unusable:
            return []
        return self.layers.forget_unused(self._needed())

    def quiet(self) -> bool:
        """Is no image being made, and no layer being unpacked?"""
        return not self._leases and not self.layers.blobs.busy

    def stray_blobs(self) -> builtins.list[Digest]:
        """Return the blobs that nothing refers to; none while there is an unusable image."""
        if self.catalog.unusable:
            return []
        kept = {image.id for image in self.catalog.all()} | self.layers.blobs.digests()
        kept |= self.catalog.manifests()
        return [digest for digest in self.content.walk() if digest not in kept]

    def _drop_blobs(self) -> builtins.list[str]:
        done = []
        for digest in self.stray_blobs():
            self.content.delete(digest)
            done.append(f"removed the blob {digest}, which nothing refers to")
        return done
