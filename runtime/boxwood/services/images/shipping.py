"""Images from and to registries, and the files that stand for one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.registry import DEFAULT_SCHEME, scheme_of
from boxwood.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from boxwood.model.compression import Compression
from boxwood.model.platform import Platform
from boxwood.model.policy import RegistryPolicy
from boxwood.model.reference import DEFAULT_DOMAIN, Reference, target_name
from boxwood.services.images import manifestlists
from boxwood.services.images.downloads import Downloads
from boxwood.services.images.pulling import Pull, describe
from boxwood.services.images.pushing import Push
from boxwood.services.images.searching import search

if TYPE_CHECKING:
    from boxwood.drivers.extension import PublicKey, Verdict, Verification
    from boxwood.drivers.registry import (
        Credentials,
        RegistryTransport,
        SearchResult,
        Workshop,
    )
    from boxwood.model.image import Image
    from boxwood.services.images.manifestlists import ManifestList
    from boxwood.services.images.service import Emit, ImagesService

RESERVED = "library/scratch"
"""The empty image: no registry has it."""
_OF_A_DIGEST = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?")
"""Where signatures and other referrers are kept (OCI distribution-spec, cosign)."""


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


class Shipping:
    """What the images service does with registries, through their transports."""

    def __init__(self, images: ImagesService, registries: Registries) -> None:
        self._images = images
        self.registries = registries
        self.policy = RegistryPolicy()
        """The engine sets it, again when the configuration was read again."""
        self.workshop: Workshop | None = None
        """Where transports have foreign programs run; the engine sets it."""
        self.downloads = Downloads(
            images.content.root, registries.downloads, registries.attempts, registries.ranges
        )
        self._uploads = asyncio.Semaphore(registries.uploads)
        self._pulls: dict[tuple[object, ...], Pull] = {}

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
            if name.domain == DEFAULT_DOMAIN and name.path == RESERVED:
                raise InvalidArgument("'scratch' is a reserved name")
            self.policy.check("pull", name)
        if called is not None and not (isinstance(name, Reference) and name.name == called.name):
            self.policy.arrival(called)
        wanted = Platform.parse(platform) if platform else None
        login = msgspec.structs.astuple(credentials) if credentials is not None else ()
        key = (scheme, str(name), str(called), str(wanted), *login)
        pull = self._pulls.get(key)
        if pull is None or pull.ended:
            pull = Pull(self._images, self._transport(scheme), name, wanted, credentials, called)
            self._pulls[key] = pull
        try:
            image = await pull.watch(emit)
            self._compare(name, wanted, emit)
            return image
        finally:
            if pull.ended and self._pulls.get(key) is pull:
                del self._pulls[key]

    def _compare(self, name: Hashable, wanted: Platform | None, emit: Emit) -> None:
        """Tell of an image that was not one of several, and is for another platform than asked."""
        if wanted is None or not isinstance(name, Reference):
            return
        try:
            self._images.check_platform(name.familiar, wanted)
        except NotFound as error:
            emit({"status": f"WARNING: {error}"})

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
        try:
            tags = await self._transport(DEFAULT_SCHEME).tags(reference, credentials)
        except NotFound as error:
            raise NotFound(f"repository {reference.familiar_name} not found: {error}") from error
        names = [_tagged(reference, tag) for tag in tags if not _OF_A_DIGEST.fullmatch(tag)]
        for name in names:
            await self.pull(name, emit, "", credentials)

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
            self._images,
            transport,
            reference,
            credentials,
            emit,
            self._uploads,
            target,
            compression,
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
        self.policy.check("push", reference)
        emit({"status": f"The push refers to repository [{reference.name}]"})
        here = self._tags_of(reference)
        if not here:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        if tag and reference not in here:
            raise NotFound(f"tag does not exist: {reference.familiar}")
        wanted = [reference] if tag else here
        transport = self._transport(DEFAULT_SCHEME)
        for one in wanted:
            await Push(
                self._images, transport, one, credentials, emit, self._uploads, None, compression
            ).run()

    def _tags_of(self, reference: Reference) -> list[Reference]:
        names = (Reference.parse(tag) for image in self._images.catalog.all() for tag in image.tags)
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
        pull = Pull(self._images, self._transport(DEFAULT_SCHEME), reference, wanted, credentials)
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
    ) -> list[SearchResult]:
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


def _tagged(reference: Reference, tag: str) -> Reference:
    try:
        return reference.with_tag(tag)
    except InvalidArgument as error:
        said = f"the registry lists {tag[:100]!r}: {error}"
        raise DataLoss(f"tags of {reference.familiar_name}: {said}") from error
