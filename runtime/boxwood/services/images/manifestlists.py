"""Manifests as `manifest inspect` shows them, and lists of them as `manifest push` makes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.documents import decode_manifest, fetch_document
from boxwood.errors import InvalidArgument
from boxwood.model.descriptor import DOCUMENT_LIMIT, INDEXES, Descriptor
from boxwood.model.digest import Digest
from boxwood.model.image import ImageConfig
from boxwood.model.reference import Reference
from boxwood.model.wire import Wire

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials, RegistryTransport

    Transport = RegistryTransport[Reference]


class ManifestList(Wire):
    """A list to publish: its type, its bytes (base64), and where its manifests are now."""

    media_type: str = msgspec.field(name="MediaType")
    raw: str = msgspec.field(name="Raw")
    sources: tuple[str, ...] = msgspec.field(default=(), name="Sources")


async def look(
    transport: Transport, reference: Reference, credentials: Credentials | None
) -> dict[str, Any]:
    """Return a manifest or index: ``Descriptor`` (of an image's, with its platform) and ``Raw``.

    Errors as ``RegistryTransport.resolve``; InvalidArgument: it is neither.
    """
    top = await transport.resolve(reference, credentials)
    data = await fetch_document(transport, reference, top, credentials)
    manifest = decode_manifest(data, top)
    shown: dict[str, Any] = {
        "mediaType": top.media_type, "digest": str(top.digest), "size": top.size,
    }  # fmt: skip
    if manifest.config is not None:
        document = await fetch_document(transport, reference, manifest.config, credentials)
        config = ImageConfig.parse(document)
        platform = {"architecture": config.architecture, "os": config.os or "linux"}
        shown["platform"] = platform | ({"variant": config.variant} if config.variant else {})
    return {"Descriptor": shown, "Raw": base64.b64encode(data).decode()}


async def publish(
    transport: Transport,
    target: Reference,
    made: ManifestList,
    credentials: Credentials | None,
) -> dict[str, Any]:
    """Push a list; manifests of other repositories of its registry are brought along first.

    Returns:
        ``Pushed`` (the names of those that were brought) and ``Digest`` of the list.

    Raises:
        InvalidArgument: a source is of another registry, or not by digest; not a list.
        Errors as ``RegistryTransport.push``.
    """
    try:
        data = base64.b64decode(made.raw, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"push manifest list: {target.familiar}: not base64") from error
    if made.media_type not in INDEXES or len(data) > DOCUMENT_LIMIT:
        raise InvalidArgument(f"push manifest list: {target.familiar}: not a list of manifests")
    sources = [Reference.parse(text) for text in made.sources]
    for source in sources:
        if source.domain != target.domain:
            raise InvalidArgument(
                "cannot use source images from a different registry than the target image: "
                f"{source.domain} != {target.domain}"
            )
        if source.digest is None:
            raise InvalidArgument(f"push manifest list: {source.familiar}: without a digest")
    pushed = [
        await _bring(transport, source, target, credentials)
        for source in sources
        if source.path != target.path
    ]
    top = Descriptor(media_type=made.media_type, digest=str(Digest.of(data)), size=len(data))
    decode_manifest(data, top)
    await transport.push(target, top, _of(data), credentials)
    return {"Pushed": pushed, "Digest": str(top.digest)}


async def _bring(
    transport: Transport, source: Reference, target: Reference, credentials: Credentials | None
) -> str:
    """Have the registry take over an image from another of its repositories; its name there."""
    top = await transport.resolve(source, credentials)
    data = await fetch_document(transport, source, top, credentials)
    manifest = decode_manifest(data, top)
    if manifest.config is None:
        raise InvalidArgument(f"{source.familiar} is a manifest list")
    for blob in (manifest.config, *(manifest.layers or ())):

        def read(offset: int, blob: Descriptor = blob) -> AsyncGenerator[bytes, None]:
            return _from(transport, source, blob, offset, credentials)

        await transport.push(target, blob, read, credentials, (source.path,))
    digest = Digest.parse(top.digest)
    pinned = transport.pinned(target, digest)
    await transport.push(pinned, top, _of(data), credentials)
    return str(pinned)


async def _from(
    transport: Transport,
    source: Reference,
    blob: Descriptor,
    offset: int,
    credentials: Credentials | None,
) -> AsyncGenerator[bytes, None]:
    stream = transport.fetch(source, blob, offset, credentials)
    async with aclosing(stream) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            yield piece


def _of(data: bytes) -> Any:
    async def pieces(offset: int) -> AsyncGenerator[bytes, None]:
        yield data[offset:]

    return pieces
