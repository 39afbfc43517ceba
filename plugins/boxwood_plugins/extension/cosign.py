"""Extension ``cosign``: verifies the signatures that cosign(1) makes with a key pair.

Two forms are read: "simple signing" (:mod:`._cosign_claims`), found at the tag
``sha256-<hex>.sig`` of the image's repository or among the referrers of the image's digest, and
sigstore's bundle (:mod:`._cosign_bundle`), cosign 3's own, among the referrers.

What holds when :func:`verify_image` returns a verdict: one of the required keys made a signature,
by an algorithm of that key's type; what was signed names the digest that the pull goes by (the
index that the reference led to, or the manifest that was chosen in it), and, where it names a
repository, one that will do. Nothing of what was signed is read before its signature holds.

What cannot be seen here: that a signature is old. Whoever serves the tag may serve an older image
that was signed once (roll-back); only a pull by digest excludes that. Keys are not revoked, the
transparency log and signatures by certificate ("keyless") are not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.extension import PublicKey, Verdict
from boxwood.drivers.hookspecs import hookimpl
from boxwood.errors import DataLoss, InvalidArgument, NotFound, PermissionDenied, TooLarge
from boxwood.model.descriptor import DOCUMENT_LIMIT, MANIFESTS, Descriptor, Manifest
from boxwood.model.digest import Digest
from boxwood_plugins.extension import _cosign_bundle as bundles
from boxwood_plugins.extension import _cosign_claims as claims
from boxwood_plugins.extension._cosign_keys import read_keys

if TYPE_CHECKING:
    from boxwood.drivers.extension import SignatureSource, Verification
    from boxwood_plugins.extension._cosign_claims import Claim

MANIFEST_LIMIT = 1 << 20
AT_MOST = 32
"""Signatures of one digest that are tried; a registry that offers more hides the good one only."""
REASONS = 8
"""Different ones that are told."""
WRONG = (DataLoss, InvalidArgument, NotFound, TooLarge)
"""What is wrong with one signature is no matter for the next."""


@hookimpl
async def verify_image(image: Verification) -> Verdict | None:
    """Return the verdict where keys are required.

    Raises:
        PermissionDenied: no signature holds; says what is wrong with those that are there.
        InvalidArgument: a required key cannot be used.
        Unavailable: the registry, or the package cryptography.
    """
    if not image.keys:
        return None
    keys = await asyncio.to_thread(read_keys, image.keys)
    wrong: list[str] = []
    signed = {one.digest: one for one in (image.top, image.manifest)}
    for about in signed.values():
        async for claim in _claims(image.source, about, wrong):
            name = next((name for name, made in keys if made(claim.signature, claim.message)), None)
            if name is None:
                wrong.append("it was made by another key, or of other bytes")
                continue
            try:
                identity = _identity(image, claim)
            except InvalidArgument as error:
                wrong.append(str(error))
                continue
            return Verdict(key=name, digest=about.digest, identity=identity)
    raise PermissionDenied(
        f"pull {image.reference.familiar}: a signature by {_listed(image.keys)} is required: "
        + ("; ".join([*dict.fromkeys(wrong)][:REASONS]) if wrong else "there is none")
    )


def _identity(image: Verification, claim: Claim) -> str:
    """Return for whom a signature is, "" for nobody in particular; InvalidArgument: another."""
    identity = claim.identity()
    if identity is None:
        if not image.unnamed:
            raise InvalidArgument("it names no repository, and signed-as wants one")
        return ""
    if not image.names(identity):
        raise InvalidArgument(f"it is for {identity.familiar}")
    return str(identity)


def _listed(keys: Sequence[PublicKey]) -> str:
    return " or ".join(key.name for key in keys)


# Where signatures are


async def _claims(
    source: SignatureSource, about: Descriptor, wrong: list[str]
) -> AsyncIterator[Claim]:
    """Yield what claims to be a signature of a manifest; notes why other things are none."""
    left = AT_MOST
    async for descriptor in _manifests(source, about.digest, wrong):
        try:
            layers = await _layers(source, descriptor)
        except WRONG as error:
            wrong.append(str(error))
            continue
        for layer in layers:
            if left == 0:
                wrong.append(f"more than {AT_MOST} are offered")
                return
            left -= 1
            try:
                yield await _claim(source, layer, about)
            except WRONG as error:
                wrong.append(str(error))


async def _claim(source: SignatureSource, layer: Descriptor, about: Descriptor) -> Claim:
    if layer.media_type == claims.SIMPLE_SIGNING:
        payload = await source.document(layer, claims.PAYLOAD_LIMIT)
        return claims.simple(layer, payload, about.digest)
    bundle = await source.document(layer, bundles.BUNDLE_LIMIT)
    manifest = partial(source.document, about, DOCUMENT_LIMIT)
    return await bundles.claim(bundle, about.digest, manifest)


async def _manifests(
    source: SignatureSource, digest: str, wrong: list[str]
) -> AsyncIterator[Descriptor]:
    parsed = Digest.parse(digest)
    tagged = await source.tagged(f"{parsed.algorithm}-{parsed.hex}.sig")
    if tagged is not None:
        yield tagged
    left = AT_MOST
    for found in await source.referrers(digest, ""):
        # An index that stands in for the referrers may say nothing of its entries' types.
        if found.artifact_type not in {claims.ARTIFACT, "", *bundles.BUNDLES}:
            continue
        predicate = (found.annotations or {}).get(bundles.PREDICATE_ANNOTATION)
        if predicate not in (None, bundles.PREDICATE):
            wrong.append(bundles.attestation(predicate))
            continue
        if left == 0:
            wrong.append(f"more than {AT_MOST} are offered")
            return
        left -= 1
        yield found


async def _layers(source: SignatureSource, descriptor: Descriptor) -> list[Descriptor]:
    if descriptor.media_type not in MANIFESTS:
        raise InvalidArgument(f"{descriptor.digest} is {descriptor.media_type[:100]}")
    data = await source.document(descriptor, MANIFEST_LIMIT)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{descriptor.digest}: {error}") from error
    wanted = {claims.SIMPLE_SIGNING, *bundles.BUNDLES}
    return [layer for layer in manifest.layers or () if layer.media_type in wanted]
