"""The images service: what the API and the other services ask of images."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import re
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from boxwood.drivers.registry import DEFAULT_SCHEME, scheme_of
from boxwood.errors import InvalidArgument, NotFound, Unsupported
from boxwood.model.compression import Compression
from boxwood.model.digest import Digest
from boxwood.model.image import Image
from boxwood.model.platform import Platform
from boxwood.model.policy import RegistryPolicy
from boxwood.model.reference import Reference
from boxwood.services.images import manifestlists, views
from boxwood.services.images.catalog import Catalog
from boxwood.services.images.committing import Commit, CommitRequest
from boxwood.services.images.downloads import Downloads
from boxwood.services.images.filters import matching
from boxwood.services.images.importing import Import
from boxwood.services.images.loading import Load
from boxwood.services.images.peers.sessions import Peers
from boxwood.services.images.pulling import Pull, describe
from boxwood.services.images.pushing import Push
from boxwood.services.images.removal import InUse, Publish, Removal
from boxwood.services.images.saving import Save
from boxwood.services.images.searching import search

if TYPE_CHECKING:
    from boxwood.drivers.extension import PublicKey, Verdict, Verification
    from boxwood.drivers.registry import (
        Credentials,
        RegistryTransport,
        SearchResult,
        Workshop,
    )
    from boxwood.services.images.manifestlists import ManifestList
    from boxwood.store.content import ContentStore
    from boxwood.store.database import Database
    from boxwood.store.layers import LayerStore

log = logging.getLogger(__name__)

_OF_A_DIGEST = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?")
"""Where signatures and other referrers are kept (OCI distribution-spec, cosign)."""
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


class Registries(msgspec.Struct, frozen=True):
    """How registries are reached. ``transport`` returns a loaded one by its scheme.

    ``schemes`` returns the schemes of those that are installed.
    """

    transport: Callable[[str], RegistryTransport[Any]] | None = None
    schemes: Callable[[], Collection[str]] = frozenset
    downloads: int = 3
    uploads: int = 5
    attempts: int = 5
    ranges: int = 4
    compression: Compression = Compression()
    verify: Callable[[Verification], Awaitable[Verdict | None]] | None = None
    """Asks the extensions about an image."""


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
        self.workshop: Workshop | None = None
        """Where transports have foreign programs run; the engine sets it."""
        self.in_use: InUse = _nobody
        """Returns the containers that use an image; the containers service sets it."""
        self.catalog = Catalog(database, content, layers)
        self.registries = registries
        self.policy = RegistryPolicy()
        """The engine sets it, again when the configuration was read again."""
        self.downloads = Downloads(
            content.root, registries.downloads, registries.attempts, registries.ranges
        )
        self._uploads = asyncio.Semaphore(registries.uploads)
        self._pulls: dict[tuple[object, ...], Pull] = {}
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
        done += self.downloads.sweep({layer.blob for layer in self.layers.all()})
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
        return views.history(self.get(ref), self.layers)

    # Changing

    def tag(self, ref: str, repo: str, tag: str = "") -> None:
        """Give an image another name.

        Raises:
            NotFound: no such image.
            InvalidArgument: the name is none.
        """
        image = self.get(ref)
        reference = target_name(repo, tag)
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
        """
        return await Load(self, emit).run(stream)

    async def pull(
        self,
        reference: Reference,
        emit: Emit,
        platform: str = "",
        credentials: Credentials | None = None,
    ) -> Image:
        """Fetch an image from a registry; joins a pull of the same that is under way.

        Messages are Docker's (``Downloading`` with figures, ``Pull complete``, ...).

        Raises:
            NotFound, Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded, DataLoss,
            InvalidArgument, TooLarge, ResourceExhausted
        """
        return await self._pull(DEFAULT_SCHEME, reference, emit, platform, credentials)

    async def pull_from(
        self,
        text: str,
        emit: Emit,
        platform: str = "",
        credentials: Credentials | None = None,
        called: str = "",
    ) -> Image:
        """Fetch an image from where ``text``, with its scheme, says; see :meth:`pull`.

        ``called`` is what the image is to be called here; empty: what the transport says.
        """
        scheme, name = self._parse(text)
        own = target_name(called, "") if called else None
        return await self._pull(scheme, name, emit, platform, credentials, own)

    async def _pull(
        self,
        scheme: str,
        name: Hashable,
        emit: Emit,
        platform: str,
        credentials: Credentials | None,
        called: Reference | None = None,
    ) -> Image:
        if isinstance(name, Reference):
            self.policy.check("pull", name)
        wanted = Platform.parse(platform) if platform else None
        login = msgspec.structs.astuple(credentials) if credentials is not None else ()
        key = (scheme, str(name), str(called), str(wanted), *login)
        pull = self._pulls.get(key)
        if pull is None or pull.ended:
            pull = Pull(self, self._transport(scheme), name, wanted, credentials, called)
            self._pulls[key] = pull
        try:
            return await pull.watch(emit)
        finally:
            if pull.ended and self._pulls.get(key) is pull:
                del self._pulls[key]

    def scheme_of(self, text: str) -> str:
        """Return the scheme that a name begins with, empty for none; raises InvalidArgument."""
        return scheme_of(text, self.registries.schemes())

    def _parse(self, text: str) -> tuple[str, Hashable]:
        """Return the transport's scheme and its name of what ``text`` says."""
        scheme = self.scheme_of(text) or DEFAULT_SCHEME
        name: Hashable = self._transport(scheme).parse(text)
        return scheme, name

    async def pull_all(
        self, reference: Reference, emit: Emit, credentials: Credentials | None = None
    ) -> None:
        """Fetch every tag of a repository, one after the other; errors as :meth:`pull`.

        Tags that are made of a digest are passed over: what they name (signatures, attestations)
        is about images, and none itself.
        """
        self.policy.check("pull", reference)
        for tag in await self._transport(DEFAULT_SCHEME).tags(reference, credentials):
            if _OF_A_DIGEST.fullmatch(tag):
                continue
            await self.pull(reference.with_tag(tag), emit, "", credentials)

    async def push_to(
        self,
        name: str,
        tag: str,
        text: str,
        emit: Emit,
        credentials: Credentials | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Send an image to where ``text``, with its scheme, says; errors as :meth:`push`."""
        reference = target_name(name, tag)
        scheme, target = self._parse(text)
        if isinstance(target, Reference):
            self.policy.check("push", target)
        emit({"status": f"The push refers to {target}"})
        transport = self._transport(scheme)
        await Push(
            self, transport, reference, credentials, emit, self._uploads, target, compression
        ).run()

    async def push(
        self,
        name: str,
        tag: str,
        emit: Emit,
        credentials: Credentials | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Send a tag of a repository, or without one all of them, to its registry.

        Raises:
            NotFound: there is no such image here.
            Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded, DataLoss
        """
        reference = target_name(name, tag)
        wanted = [reference] if tag else self._tags_of(reference)
        if not wanted:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        self.policy.check("push", reference)
        emit({"status": f"The push refers to repository [{reference.name}]"})
        transport = self._transport(DEFAULT_SCHEME)
        for one in wanted:
            await Push(
                self, transport, one, credentials, emit, self._uploads, None, compression
            ).run()

    def _tags_of(self, reference: Reference) -> builtins.list[Reference]:
        names = (Reference.parse(tag) for image in self.catalog.all() for tag in image.tags)
        return sorted((name for name in names if name.name == reference.name), key=str)

    async def distribution(
        self, reference: Reference, credentials: Credentials | None = None
    ) -> dict[str, Any]:
        """Return what a registry says of a reference: descriptor and platforms.

        Errors as :meth:`pull`.
        """
        self.policy.check("pull", reference)
        return await describe(self._transport(DEFAULT_SCHEME), reference, credentials)

    async def verify(
        self,
        reference: Reference,
        platform: str = "",
        credentials: Credentials | None = None,
        keys: tuple[PublicKey, ...] = (),
    ) -> Verdict:
        """Verify the signature of what a registry has under a name; nothing is pulled.

        Args:
            keys: to verify by; none: those that the policy requires.

        Raises:
            PermissionDenied: it does not hold.
            InvalidArgument: no key is given, and none is required.
            Errors as :meth:`pull`.
        """
        self.policy.check("pull", reference)
        wanted = Platform.parse(platform) if platform else None
        pull = Pull(self, self._transport(DEFAULT_SCHEME), reference, wanted, credentials)
        verdict = await pull.verify(keys)
        if verdict is None:
            raise InvalidArgument(
                f"verify {reference.familiar}: registry-policy requires no signature of it, and "
                "no key is given (--key FILE)"
            )
        return verdict

    async def manifest(
        self, reference: Reference, credentials: Credentials | None = None
    ) -> dict[str, Any]:
        """Return a registry's manifest or index, whole; errors as :meth:`pull`."""
        self.policy.check("pull", reference)
        return await manifestlists.look(self._transport(DEFAULT_SCHEME), reference, credentials)

    async def push_manifests(
        self, target: Reference, made: ManifestList, credentials: Credentials | None = None
    ) -> dict[str, Any]:
        """Push a list of manifests; see :func:`manifestlists.publish`."""
        self.policy.check("push", target)
        for text in made.sources:
            self.policy.check("pull", Reference.parse(text))
        transport = self._transport(DEFAULT_SCHEME)
        return await manifestlists.publish(transport, target, made, credentials)

    async def search(
        self,
        term: str,
        limit: int,
        filters: Mapping[str, Sequence[str]],
        credentials: Credentials | None = None,
    ) -> builtins.list[SearchResult]:
        """Ask a registry for repositories; see :func:`searching.search`."""
        return await search(self._transport(DEFAULT_SCHEME), term, limit, filters, credentials)

    async def login(self, domain: str, credentials: Credentials) -> str:
        """Try a login at a registry; returns the identity token that stands for it, or ``""``.

        Raises:
            Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded
        """
        return await self._transport(DEFAULT_SCHEME).login(domain, credentials)

    def _transport(self, scheme: str) -> RegistryTransport[Any]:
        if self.registries.transport is None:
            raise Unsupported(f"registry: {scheme}: this engine was made without registries")
        return self.registries.transport(scheme)

    async def commit(self, request: CommitRequest) -> Image:
        """Make an image of what a snapshot changes in the image it stands on.

        Raises:
            NotFound, ResourceExhausted, Unsupported (the driver cannot tell the changes)
        """
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
        """
        if "@" in repo:
            raise InvalidArgument("cannot import digest reference")
        name = target_name(repo, tag) if repo else None
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


def target_name(repo: str, tag: str) -> Reference:
    """Return the reference that a repository and a tag, as clients send them, make.

    Raises:
        InvalidArgument: in Docker's words.
    """
    reference = Reference.parse(repo)
    if reference.digest is not None:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    if reference.familiar_name in ("sha256", "sha512"):
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    return reference.with_tag(tag) if tag else reference.with_default_tag()
