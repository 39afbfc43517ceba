"""Extension ``cosign``: verifies the signatures that cosign(1) makes with a key pair.

A signature is a *payload*, a small JSON document that names an image's manifest digest and its
repository ("simple signing"), and bytes that a key made of it. The payload is a layer of a manifest
of its own, the bytes are an annotation of that layer. The manifest is found at the tag
``sha256-<hex>.sig`` of the image's repository, or among the referrers of the image's digest.

What holds when :func:`verify_image` returns a verdict: one of the required keys made a signature of
a payload, by the one algorithm of that key's type; the payload names the digest that the pull goes
by (the index that the reference led to, or the manifest that was chosen in it) and a repository
that is the pulled one. Nothing of a payload is read before its signature holds.

What cannot be seen here: that a signature is old. Whoever serves the tag may serve an older image
that was signed once (roll-back); only a pull by digest excludes that. Keys are not revoked, the
transparency log and signatures by certificate ("keyless") are not read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.extension import PublicKey, Verdict
from boxwood.drivers.hookspecs import hookimpl
from boxwood.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from boxwood.model.descriptor import MANIFESTS, Descriptor, Manifest
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from boxwood.drivers.extension import SignatureSource, Verification

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""What a signature among the referrers is called."""
BUNDLE = "application/vnd.dev.sigstore.bundle"
ANNOTATION = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"

MANIFEST_LIMIT = 1 << 20
PAYLOAD_LIMIT = 64 << 10
"""Bytes of a payload: a real one has some hundred."""
SIGNATURE_LIMIT = 4096
"""Characters: the signature of the longest RSA keys has 2048."""
AT_MOST = 32
"""Signatures of one digest that are tried; a registry that offers more hides the good one only."""
RSA_BITS = 2048
"""Shorter ones can be factored."""

Check = Callable[[bytes, bytes], bool]
"""Whether a signature (first) is a key's of some bytes (second)."""


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
    for digest in dict.fromkeys((image.top.digest, image.manifest.digest)):
        async for payload, signature in _signatures(image.source, digest, wrong):
            name = next((name for name, made in keys if made(signature, payload)), None)
            if name is None:
                wrong.append("it was made by another key, or of other bytes")
                continue
            try:
                identity = _identity(payload, digest)
            except InvalidArgument as error:
                wrong.append(str(error))
                continue
            if image.names(identity):
                return Verdict(key=name, digest=digest, identity=str(identity))
            wrong.append(f"it is for {identity.familiar}")
    raise PermissionDenied(
        f"pull {image.reference.familiar}: a signature by {_listed(image.keys)} is required: "
        + ("; ".join(dict.fromkeys(wrong)) if wrong else "there is none")
    )


def _listed(keys: Sequence[PublicKey]) -> str:
    return " or ".join(key.name for key in keys)


# Where signatures are


async def _signatures(
    source: SignatureSource, digest: str, wrong: list[str]
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield payloads and signatures that claim to be about a digest; notes why others are none."""
    left = AT_MOST
    async for descriptor in _manifests(source, digest, wrong):
        try:
            layers = await _layers(source, descriptor)
        except (DataLoss, InvalidArgument, NotFound, TooLarge) as error:
            wrong.append(str(error))
            continue
        for layer in layers:
            if left == 0:
                wrong.append(f"more than {AT_MOST} are offered")
                return
            left -= 1
            try:
                yield await source.document(layer, PAYLOAD_LIMIT), _decoded(layer)
            except (DataLoss, InvalidArgument, NotFound, TooLarge) as error:
                wrong.append(str(error))


async def _manifests(
    source: SignatureSource, digest: str, wrong: list[str]
) -> AsyncIterator[Descriptor]:
    parsed = Digest.parse(digest)
    tagged = await source.tagged(f"{parsed.algorithm}-{parsed.hex}.sig")
    if tagged is not None:
        yield tagged
    for found in (await source.referrers(digest, ""))[:AT_MOST]:
        if found.artifact_type == ARTIFACT:
            yield found
        elif found.artifact_type.startswith(BUNDLE):
            wrong.append("one in the bundle form of sigstore is there, which is not read")


async def _layers(source: SignatureSource, descriptor: Descriptor) -> list[Descriptor]:
    if descriptor.media_type not in MANIFESTS:
        raise InvalidArgument(f"{descriptor.digest} is {descriptor.media_type[:100]}")
    data = await source.document(descriptor, MANIFEST_LIMIT)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{descriptor.digest}: {error}") from error
    return [layer for layer in manifest.layers or () if layer.media_type == SIMPLE_SIGNING]


def _decoded(layer: Descriptor) -> bytes:
    text = (layer.annotations or {}).get(ANNOTATION, "")
    if not text or len(text) > SIGNATURE_LIMIT:
        raise InvalidArgument(f"{layer.digest} has no signature")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"{layer.digest}: its signature is not base64") from None


# What a payload says


def _identity(payload: bytes, digest: str) -> Reference:
    """Return the name that a payload is for; raises InvalidArgument: it is not of this digest."""
    try:
        document = json.loads(payload, object_pairs_hook=_once)
        critical = document["critical"]
        kind, said = critical["type"], critical["image"]["docker-manifest-digest"]
        name = critical["identity"]["docker-reference"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"its payload is none: {error}") from error
    if kind != TYPE or not isinstance(said, str) or not isinstance(name, str):
        raise InvalidArgument(f"its payload is not a {TYPE}")
    if said != digest:
        raise InvalidArgument(f"it is for {said[:80]!r}")
    try:
        return Reference.parse(name)
    except InvalidArgument:
        raise InvalidArgument(f"it is for {name[:80]!r}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says something twice: another reader may take the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


# Keys


def read_keys(keys: Sequence[PublicKey]) -> list[tuple[str, Check]]:
    """Return for each key its name and what checks signatures by it.

    The type of the key alone chooses the algorithm: nothing that a registry sends does.

    Raises:
        InvalidArgument: not a public key, or of a type that cosign does not sign with.
        Unavailable: the package cryptography is missing.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise Unavailable(
            "verify signatures: the Python package cryptography is missing: "
            "pip install 'boxwood[signatures]'"
        ) from error
    found = []
    for key in keys:
        try:
            if key.data.count(b"-----BEGIN") != 1:
                raise ValueError("one PEM block is expected")
            loaded = load_pem_public_key(key.data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidArgument(f"key {key.name}: not a public key in PEM: {error}") from error
        found.append((key.name, _check(key.name, loaded)))
    return found


def _check(name: str, key: PublicKeyTypes) -> Check:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    verify: Callable[[bytes, bytes], None]
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        curve = key

        def verify(signature: bytes, data: bytes) -> None:
            curve.verify(signature, data, ec.ECDSA(SHA256()))

    elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS:
        modulus = key

        def verify(signature: bytes, data: bytes) -> None:
            modulus.verify(signature, data, padding.PKCS1v15(), SHA256())

    elif isinstance(key, ed25519.Ed25519PublicKey):
        verify = key.verify
    else:
        raise InvalidArgument(
            f"key {name}: not of a type that is used: ECDSA on P-256, RSA of {RSA_BITS} bits or "
            "more, Ed25519"
        )

    def made(signature: bytes, data: bytes) -> bool:
        try:
            verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return made
