"""``docker push``: what a registry lacks of an image, and then its manifest.

An image that came from a registry goes out with the very manifest it came with, as long as its
layers' bytes are here or can be made again. For others a manifest is made: layers that have no
compressed form get one (``push-compression``), made once; its digest is remembered, and where a
registry lacks it later it is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.registry import Session
from boxwood.errors import BoxwoodError, NotFound
from boxwood.faultpoints import fault
from boxwood.model.descriptor import (
    CONFIGS,
    DOCKER_LAYER,
    DOCUMENT_LIMIT,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.model.wire import encode
from boxwood.services.images.documents import documents_below
from boxwood.services.images.packing import Packer, Source, from_offset

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.model.compression import Compression
    from boxwood.model.image import Image
    from boxwood.services.images.service import Emit, ImagesService
    from boxwood.store.records import Layer

SHORT = 12
_GROWING = 32 << 20
"""Bytes of files of a layer that is sent while it is compressed: a smaller one takes a moment."""
_MOUNTS = 3
"""Repositories that a registry is asked to take a layer from, at most: each costs a round trip."""
_COMPRESSIONS = frozenset(("gzip", "zstd"))


class _NoBytes(Exception):
    """What was to be sent is not here."""


class Push:
    """One tag of one repository on its way out."""

    def __init__(
        self,
        service: ImagesService,
        transport: RegistryTransport[Any],
        reference: Reference,
        credentials: Credentials | None,
        emit: Emit,
        slots: asyncio.Semaphore,
        target: Hashable | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Prepare it.

        Args:
            target: the transport's name of where to; None: where the image's name says.
            compression: asked for by who pushes; None: the configuration's.
        """
        self._service, self._transport = service, transport
        self._reference, self._credentials = reference, credentials
        self._target: Hashable = reference if target is None else target
        self._emit, self._slots = emit, slots
        self._asked = compression is not None
        self._compression = compression or service.shipping.registries.compression
        self._packer = Packer(service, self._compression)
        # Docker's manifests know no zstd.
        self._made_as = OCI_MANIFEST if self._compression.name == "zstd" else transport.made_as
        image = service.catalog.by_name(reference)
        if image is None:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        self._image: Image = image

    async def run(self) -> Digest:
        """Send it; returns the manifest's digest. Raises what the registry says."""
        service, image = self._service, self._image
        asked = Session(writing=True, called=self._reference, say=self._say)
        session = self._transport.session(self._target, asked)
        with service.lease(image.chain_ids):
            async with session:
                data = await self._sent(image)
        digest = Digest.of(data)
        if isinstance(self._target, Reference):
            service.content.put(data)
            name = Reference(self._target.domain, self._target.path, None, digest)
            service.catalog.tag(image, name)
        fault("push.recorded")
        tag = self._reference.tag
        self._say(f"{tag}: digest: {digest} size: {len(data)}")
        self._emit(
            {"progressDetail": {}, "aux": {"Tag": tag, "Digest": str(digest), "Size": len(data)}}
        )
        service.publish("image", "push", self._reference.familiar,
                        {"name": self._reference.familiar_name})  # fmt: skip
        return digest

    async def _sent(self, image: Image) -> bytes:
        """Send all of it; returns the manifest."""
        service = self._service
        layers = [service.layers.get(chain) for chain in image.chain_ids]
        for layer in layers:
            self._say("Preparing", _name(layer), progressDetail={})
        data, kind = await self._blobs(layers)
        fault("push.layers")
        top = Descriptor(media_type=kind, digest=str(Digest.of(data)), size=len(data))
        await self._send(top, _of(data))
        fault("push.manifest")
        if isinstance(self._target, Reference):
            for layer in layers:
                if layer.blob:
                    service.layers.blobs.pushed(layer.blob)
        return data

    def _say(self, status: str, key: str = "", **more: Any) -> None:
        self._emit({"status": status, **({"id": key} if key else {}), **more})

    async def _gathered(self, work: list[Any]) -> list[Descriptor]:
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _blobs(self, layers: list[Layer]) -> tuple[bytes, str]:
        """Send layers and config side by side; returns the manifest of them and its media type."""
        if (known := self._known_manifest(layers)) is not None:
            manifest, document = known
            assert manifest.config is not None
            wanted = zip(layers, manifest.layers or (), strict=True)
            try:
                await self._gathered(
                    [self._config(manifest.config), *(self._as_it_came(*pair) for pair in wanted)]
                )
            except _NoBytes:
                pass  # a layer was here already, in another form, when the image came
            else:
                return document, manifest.media_type or OCI_MANIFEST
        kind, size = self._made_as, len(self._image.document)
        config = Descriptor(media_type=CONFIGS[kind], digest=self._image.id, size=size)
        _, *described = await self._gathered(
            [self._config(config), *(self._layer(layer) for layer in layers)]
        )
        made = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": _plain(config),
            "layers": [_plain(layer) for layer in described],
        }
        return msgspec.json.format(encode(made), indent=3), kind

    # The manifest

    def _known_manifest(self, layers: list[Layer]) -> tuple[Manifest, bytes] | None:
        """Return the manifest that the image came with, or went out with, and its bytes.

        None: it is not here, or is of layers that we compressed while another form is asked for.
        """
        content = self._service.content
        for name in self._image.digests:
            digest = Reference.parse(name).digest
            if digest is None or not content.has(digest):
                continue
            for one in (digest, *documents_below(content, digest)):
                document = content.read(one, DOCUMENT_LIMIT)
                manifest = msgspec.json.decode(document, type=Manifest)
                if not manifest.is_of(self._image.id, len(self._image.chain_ids)):
                    continue
                came = zip(layers, manifest.layers or (), strict=True)
                if not self._asked or all(layer.blob == one.digest for layer, one in came):
                    return manifest, document
        return None

    # Layers, and the config. What the registry has by now is asked before a slot is waited for:
    # on a long line that takes long, and next to nothing of the line.

    async def _config(self, descriptor: Descriptor) -> Descriptor:
        async with self._slots:
            await self._send(descriptor, _of(self._image.document))
        return descriptor

    async def _has(self, descriptor: Descriptor, layer: Layer) -> bool:
        found = await self._transport.has(self._target, descriptor, self._credentials)
        if found:
            self._say("Layer already exists", _name(layer), progressDetail={})
        return found

    async def _as_it_came(self, layer: Layer, descriptor: Descriptor) -> Descriptor:
        """Send a layer's very bytes; raises _NoBytes when neither we nor the registry have them."""
        if await self._has(descriptor, layer):
            return descriptor
        async with self._slots:
            layers, lacking = self._service.layers, False

            async def made(offset: int) -> AsyncGenerator[bytes, None]:
                nonlocal lacking
                now = layers.get(layer.chain_id)  # what it came as may have been found out
                if now.claim is not None and now.claim.blob == descriptor.digest:
                    await layers.blobs.prove(layer.chain_id)
                    now = layers.get(layer.chain_id)
                lacking = now.blob != descriptor.digest or not layers.blobs.has_bytes(now)
                if lacking:
                    raise _NoBytes(offset)
                async with aclosing(self._blob(now)(offset)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        yield piece

            try:
                await self._send(descriptor, made, layer)
            except BoxwoodError as error:  # a transport may take ours for a fault of the line
                if lacking:
                    raise _NoBytes(str(error)) from error
                raise
            return descriptor

    async def _layer(self, layer: Layer) -> Descriptor:
        store, compression = self._service.layers.blobs, self._compression
        if layer.compression in _COMPRESSIONS and store.has_bytes(layer):
            size = layer.stored or self._service.content.size(Digest.parse(layer.blob))
            kind = self._layer_type(layer.compression)
            found = Descriptor(media_type=kind, digest=layer.blob, size=size)
            source = self._blob(layer)
        elif layer.packed and layer.packed_as == str(compression):
            found, source = self._packed(layer), self._packer.again(layer)
        else:
            async with self._slots:
                return await self._pack_and_send(layer)
        if not await self._has(found, layer):
            async with self._slots:
                await self._send(found, source, layer)
        return found

    def _layer_type(self, compression: str) -> str:
        if self._made_as == OCI_MANIFEST:
            return f"{OCI_LAYER}+{compression}"
        return f"{DOCKER_LAYER}.{compression}"

    def _blob(self, layer: Layer) -> Source:
        async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
            blob = self._service.layers.blobs.open_blob(layer)
            async with blob as (fd, _), aclosing(from_offset(fd, offset)) as source:
                async for piece in source:
                    yield piece

        return pieces

    def _packed(self, layer: Layer) -> Descriptor:
        kind = self._layer_type(self._compression.name)
        return Descriptor(media_type=kind, digest=layer.packed, size=layer.packed_size)

    async def _pack_and_send(self, layer: Layer) -> Descriptor:
        """Send a layer whose compressed form is to be made; a large one while it is made."""
        self._say("Compressing", _name(layer), progressDetail={})

        async with self._packer.packing(layer) as (packed, source):

            async def made() -> Descriptor:
                found = self._packed(await packed)
                fault("push.packed")
                return found

            if layer.size < _GROWING:
                found = await made()
                await self._send(found, source, layer)
                return found
            told, sent = self._told(layer, source, 0)
            making = asyncio.ensure_future(made())
            try:
                await self._transport.push_growing(self._target, making, told, self._credentials)
                self._pushed(layer, sent)
                return await making
            finally:
                making.cancel()
                await asyncio.wait([making])

    async def _send(
        self, descriptor: Descriptor, source: Source, layer: Layer | None = None
    ) -> None:
        if layer is None:
            await self._transport.push(self._target, descriptor, source, self._credentials)
            return
        told, sent = self._told(layer, source, descriptor.size)
        mounted = await self._transport.push(
            self._target, descriptor, told, self._credentials, self._mounts(layer)
        )
        self._pushed(layer, sent, mounted)

    def _told(self, layer: Layer, source: Source, total: int) -> tuple[Source, asyncio.Event]:
        """Return a source that tells of what is read of it, and whether it was read.

        ``total``: bytes; 0: nobody knows.
        """
        sent = asyncio.Event()

        async def told(offset: int) -> AsyncGenerator[bytes, None]:
            sent.set()
            current = offset
            async with aclosing(source(offset)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
                    current += len(piece)
                    detail = {"current": current} | ({"total": total} if total else {})
                    self._say("Pushing", _name(layer), progressDetail=detail)

        return told, sent

    def _pushed(self, layer: Layer, sent: asyncio.Event, mounted: str | None = None) -> None:
        fault("push.sent")
        said = "Pushed" if sent.is_set() else "Layer already exists"
        if mounted is not None:
            said = f"Mounted from {mounted}"
        self._say(said, _name(layer), progressDetail={})

    def _mounts(self, layer: Layer) -> tuple[str, ...]:
        """Return repositories of the same registry that should have the layer's bytes."""
        target = self._target
        if not isinstance(target, Reference):
            return ()
        found: dict[str, None] = {}  # in order, each once
        for image in self._service.catalog.all():
            if layer.chain_id not in image.chain_ids:
                continue
            for name in map(Reference.parse, image.digests):
                if name.domain == target.domain and name.path != target.path:
                    found[name.path] = None
        return tuple(found)[:_MOUNTS]


def _name(layer: Layer) -> str:
    return Digest.parse(layer.diff_id).hex[:SHORT]


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str(descriptor.digest),
    }


def _of(data: bytes) -> Source:
    async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
        yield data[offset:]

    return pieces
