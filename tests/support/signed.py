"""A repository in memory with signatures in it, and the verifier ``cosign`` asked about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from boxwood.drivers.extension import PublicKey, Verdict, Verification
from boxwood.errors import DataLoss, PermissionDenied, TooLarge
from boxwood.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from boxwood.model.reference import Reference
from boxwood_plugins.extension import cosign
from tests.support.scripted import digest
from tests.support.signing import (
    BUNDLE,
    Signer,
    bundle_manifest,
    signature_layer,
    signature_manifest,
)

NAME = "registry.example/team/app"
IMAGE, INDEX, OTHER = digest(b"image"), digest(b"index"), digest(b"other")
"""Digests of manifests whose bytes are these words."""


class Repository:
    """A repository in memory; counts what is asked of it."""

    def __init__(self) -> None:
        self.tags: dict[str, Descriptor] = {}
        self.about: dict[str, list[Descriptor]] = {}
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def tagged(self, tag: str) -> Descriptor | None:
        """Return what a tag names."""
        self.asked.append(tag)
        return self.tags.get(tag)

    async def referrers(self, about: str, artifact_type: str) -> list[Descriptor]:
        """Return what is about a digest."""
        return self.about.get(about, [])

    async def document(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return content, checked."""
        self.asked.append(descriptor.digest)
        if descriptor.size > limit:
            raise TooLarge("too large")
        data = self.content.get(descriptor.digest, b"")
        if digest(data) != descriptor.digest:
            raise DataLoss("wrong bytes")
        return data

    def put(self, data: bytes, kind: str = OCI_MANIFEST, artifact: str = "") -> Descriptor:
        """Store content; returns its descriptor."""
        self.content[digest(data)] = data
        return Descriptor(
            media_type=kind, digest=digest(data), size=len(data), artifact_type=artifact
        )

    def sign(self, signed: str, *signatures: tuple[bytes, bytes], at: str = "") -> None:
        """Put signatures at the tag of a digest (or that of another, ``at``)."""
        manifest = signature_manifest(*(signature_layer(*one) for one in signatures))
        for document, _ in signatures:
            self.put(document)
        self.tags[f"{(at or signed).replace(':', '-')}.sig"] = self.put(manifest)

    def refer(self, signed: str, bundle: bytes, **more: str) -> None:
        """Put a bundle among the referrers of a digest."""
        kind = more.pop("kind", BUNDLE)
        self.put(bundle)
        found = self.put(bundle_manifest(bundle, kind=kind), artifact=kind)
        found = msgspec.structs.replace(found, annotations=more or None)
        self.about.setdefault(signed, []).append(found)


def key(signer: Signer) -> PublicKey:
    """Return its public half."""
    return PublicKey(signer.public.name, signer.public.read_bytes())


async def verify(
    repository: Repository,
    *keys: PublicKey,
    reference: str = f"{NAME}:1",
    top: str = IMAGE,
    names: Callable[[Reference], bool] = lambda one: one.name == NAME,
    unnamed: bool = True,
) -> Verdict | None:
    """Ask the verifier about an image of one manifest, or in an index (``top``)."""
    return await cosign.verify_image(
        Verification(
            reference=Reference.parse(reference),
            top=Descriptor(media_type=OCI_MANIFEST if top == IMAGE else OCI_INDEX, digest=top),
            manifest=Descriptor(media_type=OCI_MANIFEST, digest=IMAGE),
            keys=keys,
            names=names,
            unnamed=unnamed,
            source=repository,
        )
    )


async def refused(repository: Repository, *keys: PublicKey, **more: Any) -> str:
    """Return why it is refused."""
    with pytest.raises(PermissionDenied) as caught:
        await verify(repository, *keys, **more)
    return str(caught.value)
