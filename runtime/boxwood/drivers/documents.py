"""Manifests and indexes as strangers send them: fetched, read strictly, the right one chosen."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.errors import DataLoss, DeadlineExceeded, InvalidArgument, TooLarge, Unavailable
from boxwood.faultpoints import PATIENCE
from boxwood.model.descriptor import DOCUMENT_LIMIT, INDEXES, MANIFESTS, Descriptor, Manifest
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from boxwood.drivers.registry import Credentials, RegistryTransport
    from boxwood.model.platform import Platform

ATTEMPTS = 3
BACKOFF = 0.2 * PATIENCE
"""Seconds before the second attempt at a document; twice as many before the third."""
_NO_PLATFORM = 1000
"""Rank of an entry that says no platform: after all that fit."""


def parse(where: str, data: bytes) -> Manifest:
    """Return a manifest or an index; ``where`` begins the errors.

    Raises:
        InvalidArgument: it is neither, or both.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{where}: {error}") from error
    if manifest.manifests is not None and (manifest.layers is not None or manifest.config):
        # Two readings of one document (CVE-2021-41190).
        raise InvalidArgument(f"{where}: both an index and a manifest")
    return manifest


def decode_manifest(data: bytes, descriptor: Descriptor) -> Manifest:
    """Return a manifest or an index; raises InvalidArgument for what is neither, or both."""
    name = descriptor.digest
    manifest = parse(f"manifest {name}", data)
    if manifest.media_type and manifest.media_type != descriptor.media_type:
        raise InvalidArgument(
            f"manifest {name}: is {manifest.media_type}, was announced as {descriptor.media_type}"
        )
    if descriptor.media_type not in MANIFESTS | INDEXES:
        raise InvalidArgument(f"manifest {name}: {descriptor.media_type}: not an image")
    return manifest


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an entry of an index is about an image, and none itself."""
    platform = descriptor.platform
    annotations = descriptor.annotations or {}
    unknown = platform is not None and (platform.os, platform.architecture) == (
        "unknown",
        "unknown",
    )
    return unknown or annotations.get("vnd.docker.reference.type") == "attestation-manifest"


def best(entries: Iterable[Descriptor], machine: Platform) -> Descriptor | None:
    """Return the entry of an index that fits a machine best, the first of equals; None: none."""
    ranked = [
        (rank, at, entry)
        for at, entry in enumerate(entries)
        if not is_attestation(entry)
        and (rank := machine.rank(entry.platform) if entry.platform else _NO_PLATFORM) is not None
    ]
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None


async def fetch_document(
    transport: RegistryTransport[Any],
    name: Hashable,
    descriptor: Descriptor,
    credentials: Credentials | None,
) -> bytes:
    """Fetch a small document and verify it.

    What breaks off, stalls or has other bytes is asked for again, ATTEMPTS times in all.

    Raises:
        DataLoss, TooLarge, and what the transport raises.
    """
    digest = Digest.parse(descriptor.digest)
    if descriptor.size > DOCUMENT_LIMIT:
        raise TooLarge(f"pull: {digest}: larger than {DOCUMENT_LIMIT} bytes")
    for attempt in range(ATTEMPTS):
        try:
            data = await _body(transport, name, descriptor, credentials)
            if len(data) == descriptor.size and Digest.of(data, digest.algorithm) == digest:
                return data
            raise DataLoss(f"pull {shown(name)}: {digest}: wrong bytes were sent")
        except (Unavailable, DeadlineExceeded, DataLoss):
            if attempt == ATTEMPTS - 1:
                raise
        await asyncio.sleep(BACKOFF * 2**attempt)
    raise AssertionError("unreachable")


async def _body(
    transport: RegistryTransport[Any],
    name: Hashable,
    descriptor: Descriptor,
    credentials: Credentials | None,
) -> bytes:
    """Return what is sent, of which no more than one piece too much is read."""
    data = bytearray()
    async with aclosing(transport.fetch(name, descriptor, 0, credentials)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            data += piece
            if len(data) > descriptor.size:
                break
    return bytes(data)


def shown(name: Hashable) -> str:
    """Return a transport's name as messages write it."""
    return name.familiar if isinstance(name, Reference) else str(name)
