"""``docker pull``: from a registry to an image with names.

The manifest is fetched and verified, then the config, then the missing layers: several at once from
the network, each going through one worker as it comes (both digests, decompression, extraction),
in their order. Nothing is visible before the whole is recorded. Who asks for what is being pulled
already joins in; when nobody waits any more it stops, and what came stays for the next time.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.documents import best, decode_manifest, fetch_document, shown
from boxwood.drivers.registry import Session
from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument, NotFound
from boxwood.execution.spool import fed
from boxwood.faultpoints import fault
from boxwood.model.descriptor import DOCUMENT_LIMIT, INDEXES, MANIFESTS, Descriptor, Manifest
from boxwood.model.digest import Digest, chain_ids
from boxwood.model.image import LAYER_LIMIT, Image, ImageConfig
from boxwood.model.platform import Platform
from boxwood.model.policy import Requirement
from boxwood.model.reference import Reference
from boxwood.services.images import verifying
from boxwood.services.images.arriving import Arriving
from boxwood.services.images.downloads import Download, is_wrong
from boxwood.store.ahead import Ahead
from boxwood.store.piping import read_some

if TYPE_CHECKING:
    from boxwood.drivers.extension import PublicKey, Verdict
    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.services.images.service import Emit, ImagesService
    from boxwood.store.records import Layer

SHORT = 12
BEAT = 0.1
"""Seconds between two messages about one download."""


class Pull:
    """One pull; several clients may watch it."""

    def __init__(
        self,
        service: ImagesService,
        transport: RegistryTransport[Any],
        name: Hashable,
        platform: Platform | None,
        credentials: Credentials | None,
        called: Reference | None = None,
    ) -> None:
        """``name`` is the transport's; ``called`` is what the image is to be called, if not so."""
        self._service, self._transport = service, transport
        self._name, self._credentials = name, credentials
        self._platform, self._called = platform, called
        self._watchers: list[asyncio.Queue[dict[str, Any] | None]] = []
        self._said: dict[str, dict[str, Any]] = {}
        """The last message of each id, for who joins later."""
        self._begun: dict[tuple[str, int], Download] = {}
        """Downloads by digest and size that this pull began before it knew the config."""
        self._work: asyncio.Task[Image] | None = None

    # Watching

    @property
    def ended(self) -> bool:
        """Is there nothing to join any more?"""
        return self._work is not None and self._work.done()

    async def watch(self, emit: Emit) -> Image:
        """Take part until its end; raises what it raises. The last who leaves stops it."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        for message in self._said.values():
            queue.put_nowait(message)
        self._watchers.append(queue)
        if self._work is None:
            self._work = asyncio.ensure_future(self._run())
            self._work.add_done_callback(lambda _: self._end())
        try:
            while (news := await queue.get()) is not None:
                emit(news)
            return await asyncio.shield(self._work)
        finally:
            self._watchers.remove(queue)
            if not self._watchers and not self._work.done():
                self._work.cancel()
                await asyncio.wait([self._work])

    def _end(self) -> None:
        for queue in self._watchers:
            queue.put_nowait(None)

    def _say(self, status: str, key: str = "", **more: Any) -> None:
        message: dict[str, Any] = {"status": status, **more}
        if key:
            message["id"] = key
        self._said[key or f" {status}"] = message
        for queue in self._watchers:
            queue.put_nowait(message)

    # Documents

    async def _run(self) -> Image:
        called = self._called or (self._name if isinstance(self._name, Reference) else None)
        asked = Session(
            platform=self._platform,
            manifest_wanted=called is None or self._service.catalog.by_name(called) is None,
            say=self._say,
            workshop=self._service.shipping.workshop,
        )
        async with self._transport.session(self._name, asked):
            return await self._fetched()

    async def _fetched(self) -> Image:
        top = await self._transport.resolve(self._name, self._credentials)
        reference = await self._local_name(top)
        if isinstance(self._name, Reference):
            tag = None if self._name.digest is not None else self._name.tag
            self._say(f"Pulling from {self._name.path}", tag or str(self._name))
        else:
            self._say(f"Pulling from {self._name}")
        documents: list[bytes] = []
        descriptor, manifest = await self._manifest(top, documents)
        assert manifest.config is not None
        await self._verify(reference, top, descriptor)
        layers = manifest.layers or ()
        manifest.check_layers(f"manifest {descriptor.digest}")
        known = self._service.catalog.by_name(reference)
        async with self._early(layers):
            config_bytes = await self._document(manifest.config)
            config = ImageConfig.parse(config_bytes)
            self._check(config, layers)
            fault("pull.documents")
            names = _names(reference, top)
            image = await self._image(config, config_bytes, layers, documents, names)
        familiar = reference.familiar
        self._say(f"Digest: {top.digest}")
        self._say(
            f"Status: Image is up to date for {familiar}"
            if known is not None and known.id == image.id
            else f"Status: Downloaded newer image for {familiar}"
        )
        self._service.publish("image", "pull", familiar, {"name": reference.familiar_name})
        return image

    async def _local_name(self, top: Descriptor) -> Reference:
        found = self._called or await self._transport.local_name(self._name, top)
        if found is None:
            raise InvalidArgument(
                f"pull {self._name}: it does not say what the image is called: give it a name"
            )
        return found.with_default_tag()

    async def verify(self, keys: tuple[PublicKey, ...]) -> Verdict | None:
        """Look at signatures alone: by these keys, or, if there are none, by those required."""
        async with self._transport.session(self._name, Session(platform=self._platform)):
            top = await self._transport.resolve(self._name, self._credentials)
            reference = await self._local_name(top)
            descriptor, _ = await self._manifest(top, [])
            return await self._verify(reference, top, descriptor, keys)

    async def _verify(
        self,
        reference: Reference,
        top: Descriptor,
        manifest: Descriptor,
        keys: tuple[PublicKey, ...] = (),
    ) -> Verdict | None:
        verdict = None
        for name, requirement in self._required(reference):
            source = verifying.Source(self._transport, self._name, self._credentials)
            ask = self._service.shipping.registries.verify
            image = verifying.question(name, top, manifest, source, requirement, keys)
            verdict = await verifying.verify(ask, image)
        return verdict

    def _required(self, reference: Reference) -> list[tuple[Reference, Requirement]]:
        """Return the names that this is about, and what each requires; raises PermissionDenied.

        What comes from a registry must be what its name there requires, and what is to be called
        otherwise here must be fit for that name as well.
        """
        policy, found = self._service.shipping.policy, []
        own = self._name if isinstance(self._name, Reference) else None
        if own is not None:
            found.append((own, policy.requirement(own) or Requirement()))
        if own is None or reference.name != own.name:
            found.append((reference, policy.arrival(reference) or Requirement()))
        elif self._called is not None:  # another tag of the same
            found.append((reference, policy.requirement(reference) or Requirement()))
        return found

    async def _manifest(
        self, top: Descriptor, documents: list[bytes]
    ) -> tuple[Descriptor, Manifest]:
        """Return the manifest for the wanted platform; what was read on the way is appended."""
        descriptor = top
        for _ in range(3):
            data = await self._document(descriptor)
            documents.append(data)
            manifest = decode_manifest(data, descriptor)
            if descriptor.media_type in MANIFESTS:
                if manifest.config is None:
                    raise InvalidArgument(f"manifest {descriptor.digest}: it names no config")
                return descriptor, manifest
            descriptor = self._choose(manifest)
        raise InvalidArgument(f"manifest {top.digest}: indexes within indexes")

    def _choose(self, index: Manifest) -> Descriptor:
        machine = self._platform or Platform.host()
        entries = (one for one in index.manifests or () if one.media_type in MANIFESTS | INDEXES)
        if (chosen := best(entries, machine)) is None:
            raise NotFound(
                f"no matching manifest for {machine} in the manifest list entries"
                if self._platform is None
                else f"no match for platform in manifest: not found ({machine})"
            )
        return chosen

    async def _document(self, descriptor: Descriptor) -> bytes:
        """Return a small document, verified; from here, if it is here."""
        content, digest = self._service.content, Digest.parse(descriptor.digest)
        if content.has(digest):
            return content.read(digest, DOCUMENT_LIMIT)
        return await fetch_document(self._transport, self._name, descriptor, self._credentials)

    def _check(self, config: ImageConfig, layers: tuple[Descriptor, ...]) -> None:
        wanted = len(config.rootfs.diff_ids)
        if len(layers) != wanted or wanted > LAYER_LIMIT:
            raise InvalidArgument(
                f"invalid manifest, layers length mismatch: expected {wanted}, got {len(layers)}"
            )
        if config.os not in ("", "linux"):
            raise InvalidArgument(f"image operating system {config.os!r} cannot be used on linux")

    # Layers

    async def _image(
        self,
        config: ImageConfig,
        document: bytes,
        layers: tuple[Descriptor, ...],
        documents: list[bytes],
        names: list[Reference],
    ) -> Image:
        service = self._service
        chains = chain_ids(config.rootfs.diff_ids)
        with service.lease(chains), service.undoing(document):
            # What was fetched stays until the image is recorded: the next try may need it.
            async with AsyncExitStack() as downloads:
                await self._layers(config, layers, chains, downloads, Digest.of(document))
                service.content.put(document)
                for data in documents:
                    service.content.put(data)
                await service.layers.ensure_init(chains[-1] if chains else None)
                await service.layers.settle(chains)
                fault("pull.settled")
                image, _ = service.catalog.add(config, document, names)
                fault("pull.recorded")
                for layer in layers:
                    service.shipping.downloads.forget(layer)
        return image

    async def _layers(
        self,
        config: ImageConfig,
        layers: tuple[Descriptor, ...],
        chains: tuple[Digest, ...],
        downloads: AsyncExitStack,
        key: Digest,
    ) -> None:
        """Fetch and unpack them; ``downloads`` says when what was fetched is let go.

        ``key`` is the image's id.
        """
        store = self._service.layers
        missing = [chain for chain in chains if not store.has(chain)]
        if not missing and self._service.catalog.by_id(str(key)) is not None:
            return  # the image is here, whatever its names are: nothing is to be told
        for layer, chain in zip(layers, chains, strict=True):
            here = chain not in missing
            self._say("Already exists" if here else "Pulling fs layer", _short(layer),
                      progressDetail={})  # fmt: skip
        coming = [
            await downloads.enter_async_context(self._coming(layer, diff_id, chain))
            for layer, diff_id, chain in zip(layers, config.rootfs.diff_ids, chains, strict=True)
        ]
        parent: Digest | None = None
        for unpack, chain in zip(coming, chains, strict=True):
            await unpack(parent)
            parent = chain

    @asynccontextmanager
    async def _early(self, layers: tuple[Descriptor, ...]) -> AsyncIterator[None]:
        """Begin to fetch while the config is on its way, which says what is missing.

        As many as come side by side, and none of which something is here.
        """
        here = {layer.blob for layer in self._service.layers.all()}
        async with AsyncExitStack() as stack:
            for layer in layers[: self._service.shipping.registries.downloads]:
                if layer.digest not in here:
                    download = await stack.enter_async_context(self._download(layer))
                    self._begun[layer.digest, layer.size] = download
            try:
                yield
            finally:
                self._begun.clear()

    @asynccontextmanager
    async def _download(self, layer: Descriptor) -> AsyncIterator[Download]:
        """Fetch a layer, once in this pull: who joins twice has twice the attempts."""
        if (begun := self._begun.get((layer.digest, layer.size))) is not None:
            yield begun
            return

        def fetch(offset: int) -> AsyncIterator[bytes]:
            return self._transport.fetch(self._name, layer, offset, self._credentials)

        def part(start: int, end: int) -> AsyncIterator[bytes]:
            return self._transport.fetch_part(self._name, layer, start, end, self._credentials)

        async with self._service.shipping.downloads.joined(layer, fetch, part) as download:
            yield download

    @asynccontextmanager
    async def _coming(
        self, layer: Descriptor, diff_id: str, chain: Digest
    ) -> AsyncIterator[Callable[[Digest | None], Any]]:
        """Begin to fetch a layer; yields what unpacks it on its parent."""
        store = self._service.layers
        if store.has(chain):
            yield _nothing
            return
        if (twin := self._twin(diff_id)) is not None:

            async def again(parent: Digest | None) -> None:
                await self._unpack_twin(twin, parent, diff_id, chain)
                self._say("Already exists", _short(layer), progressDetail={})

            yield again
            return

        async with self._download(layer) as download:
            self._begin(download, layer, diff_id, chain)
            telling = asyncio.ensure_future(self._tell(layer, download))

            async def unpack(parent: Digest | None) -> None:
                last = await self._unpack(layer, download, parent, diff_id, chain)
                telling.cancel()  # it may be about to say less
                await asyncio.wait([telling])
                if telling.cancelled():
                    self._say("Download complete", _short(layer), progressDetail={})
                self._say(last, _short(layer), progressDetail={})

            try:
                yield unpack
            finally:
                telling.cancel()
                await asyncio.wait([telling])

    def _begin(self, download: Download, layer: Descriptor, diff_id: str, chain: Digest) -> None:
        """Have it unpacked as it comes, where that can be, unless somebody does already."""
        if Ahead.possible(self._service.layers) and not download.ahead:
            slots = self._service.shipping.downloads.unpacking
            download.join_ahead(
                chain,
                Arriving(self._service.layers, slots, download.path, diff_id, layer.digest),
            )

    async def _tell(self, layer: Descriptor, download: Download) -> None:
        last = -1
        while not download.done:
            if download.there != last:
                last = download.there
                self._say("Downloading", _short(layer), progressDetail=_detail(last, layer.size))
            await asyncio.sleep(BEAT)
        self._say("Download complete", _short(layer), progressDetail={})

    def _twin(self, diff_id: str) -> Layer | None:
        """Return a layer that is here with the same bytes, on other parents."""
        for other in self._service.layers.all():
            if other.diff_id == diff_id and (other.kept or other.recipe):
                return other
        return None

    async def _unpack_twin(
        self, twin: Layer, parent: Digest | None, diff_id: str, chain: Digest
    ) -> None:
        """Make the layer of another one's bytes; done at once when it is here."""
        store = self._service.layers
        if store.has(chain):
            return
        try:
            async with store.blobs.open_tar(twin) as (fd, _):

                async def pieces() -> AsyncGenerator[bytes, None]:
                    while piece := await read_some(fd):
                        yield piece

                unpack = store.unpacker.unpack
                await fed(pieces(), lambda source: unpack(parent, source, diff_id=diff_id))
        except BoxwoodError:
            if not store.has(chain):  # else another pull has made it, and these bytes go nowhere
                raise

    async def _unpack(
        self,
        layer: Descriptor,
        download: Download,
        parent: Digest | None,
        diff_id: str,
        chain: Digest,
    ) -> str:
        """Make the layer, and return what is to be said of it in the end.

        Bytes that are wrong are fetched afresh, if not all of them are of one answer, or if
        somebody else who waits has another way to them.
        """
        tries = 0
        while True:
            if (twin := self._twin(diff_id)) is not None:  # the same bytes lower down
                await self._unpack_twin(twin, parent, diff_id, chain)
                return "Already exists"
            renewals = download.renewals
            try:
                await self._unpack_here(layer, download, parent, diff_id, chain)
            except BoxwoodError as error:
                renewed = download.renewals != renewals  # another pull has found it out
                if not renewed and not is_wrong(error):
                    raise
                tries += 1
                if not renewed:
                    await self._again(layer, download, tries, error)
            else:
                break
            self._say("Retrying", _short(layer), progressDetail={})
            await download.renew(renewals)
        fault("pull.unpacked")
        return "Pull complete"

    async def _again(
        self, layer: Descriptor, download: Download, tries: int, error: BoxwoodError
    ) -> None:
        """Raise DataLoss if no further try makes sense."""
        right = await download.is_right(layer.digest, self._service.offload)
        if right:
            download.spent = True
        elif tries > len(download.ways) or not download.renewable:
            download.wrong = True
        else:
            return
        raise DataLoss(f"pull {shown(self._name)}: {error}") from error

    async def _unpack_here(
        self,
        layer: Descriptor,
        download: Download,
        parent: Digest | None,
        diff_id: str,
        chain: Digest,
    ) -> None:
        service = self._service
        # A name of its own: another pull may make another layer of the same file.
        keep = download.link(service.content.root / "ingest" / f"pull.{secrets.token_hex(8)}")
        unpack = functools.partial(
            service.layers.unpacker.unpack, parent, diff_id=diff_id, digest=layer.digest, keep=keep
        )
        try:
            if chain not in download.ahead:
                await fed(download.follow(), unpack)
                return
            await download.arrived()
            # Another pull of the same layer may have taken what was unpacked.
            arriving = download.ahead.pop(chain, None)
            with keep.open("rb", buffering=0) as source:
                begun = arriving.take() if arriving else None
                await unpack(source.fileno(), begun=begun)
        finally:
            keep.unlink(missing_ok=True)


def _names(reference: Reference, top: Descriptor) -> list[Reference]:
    by_digest = Reference(reference.domain, reference.path, None, Digest.parse(top.digest))
    if reference.tag is None or reference.digest is not None:
        return [by_digest]
    return [reference, by_digest]


async def describe(
    transport: RegistryTransport[Any], name: Hashable, credentials: Credentials | None
) -> dict[str, Any]:
    """Return ``GET /distribution/{name}/json``: a manifest's descriptor and its platforms."""
    top = await transport.resolve(name, credentials)
    data = await fetch_document(transport, name, top, credentials)
    manifest = decode_manifest(data, top)
    platforms = [entry.platform for entry in manifest.manifests or () if entry.platform]
    if manifest.config is not None:
        config = await fetch_document(transport, name, manifest.config, credentials)
        parsed = ImageConfig.parse(config)
        version = msgspec.json.decode(config).get("os.version")
        platforms = [
            Platform(
                architecture=parsed.architecture,
                os=parsed.os,
                variant=parsed.variant,
                os_version=version if isinstance(version, str) else "",
            )
        ]
    return {
        "Descriptor": {"mediaType": top.media_type, "digest": top.digest, "size": top.size},
        "Platforms": [_platform(one) for one in platforms],
    }


def _platform(one: Platform) -> dict[str, Any]:
    shown = msgspec.to_builtins(one)
    return {
        "architecture": one.architecture,
        "os": one.os or "linux",
        **{key: shown[key] for key in ("os.version", "os.features", "variant") if shown.get(key)},
    }


async def _nothing(parent: Digest | None) -> None:
    del parent


def _short(layer: Descriptor) -> str:
    return Digest.parse(layer.digest).hex[:SHORT]


def _detail(current: int, total: int) -> dict[str, int]:
    return {"current": current, "total": total}
