"""Sigstore's bundle, in which cosign 3 signs: one JSON document with signature and material.

It holds one of two: a *DSSE envelope*, whose payload is an in-toto statement about a digest, or a
*message signature*, which is of the manifest's own bytes. Neither need name a repository.

Sources: sigstore protobuf-specs (sigstore_bundle.proto, sigstore_common.proto) in protobuf's JSON;
secure-systems-lab DSSE 1.0.2 protocol.md (the pre-authentication encoding); in-toto attestation
statement v1 and v0.1; cosign's BUNDLE_SPEC.md (how it lies in a registry).
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from boxwood.errors import InvalidArgument
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood_plugins.extension._cosign_claims import Claim, decoded, document, named, unspelled

BUNDLES = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    *(f"application/vnd.dev.sigstore.bundle+json;version=0.{minor}" for minor in (1, 2, 3)),
)
"""No set: what a document says in a type's place may be anything, also what has no hash."""
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
"""What a statement that is a signature of an image says of it."""
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
"""Where a referrer says its statement's predicate type: a hint, by nobody in particular."""
STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_LIMIT = 128 << 10
"""Bytes of a bundle: with two entries of a transparency log one has some ten thousand."""
CERTIFICATES = ("certificate", "x509CertificateChain")


async def claim(bundle: bytes, digest: str, manifest: Callable[[], Awaitable[bytes]]) -> Claim:
    """Return what a bundle claims about an image.

    The transparency log's entries and the timestamps in it are not looked at, nor is the hint that
    names its key: the keys are those that are required.

    Args:
        bundle: the document.
        digest: that of the manifest.
        manifest: returns its bytes, verified; asked only for a signature that is of them.

    Raises:
        InvalidArgument: it is no bundle, or is signed by certificate.
        Unavailable, DataLoss, NotFound, TooLarge: what ``manifest`` raises.
    """
    found = _object(_parsed(bundle, "a bundle"), "a bundle")
    if found.get("mediaType") not in BUNDLES:
        raise InvalidArgument(f"a bundle of the type {str(found.get('mediaType'))[:100]!r}")
    material = _object(found.get("verificationMaterial"), "a bundle without material")
    if any(material.get(kind) is not None for kind in CERTIFICATES):
        raise InvalidArgument(
            "one is signed by certificate (keyless), which is not supported: sign with --key"
        )
    if not isinstance(material.get("publicKey"), dict):
        raise InvalidArgument("a bundle of no public key")
    envelope, message = found.get("dsseEnvelope"), found.get("messageSignature")
    if (envelope is None) == (message is None):
        raise InvalidArgument("a bundle with other than one signature")
    if envelope is not None:
        return _enveloped(_object(envelope, "a bundle's envelope"), digest)
    return _message(_object(message, "a bundle's signature"), await manifest())


def _parsed(data: bytes, what: str) -> Any:
    try:
        return document(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} that is none: {error}") from error


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: no object")
    return value


# A statement in an envelope


def _enveloped(envelope: dict[str, Any], digest: str) -> Claim:
    kind, text = envelope.get("payloadType"), envelope.get("payload")
    signatures = envelope.get("signatures")
    if kind != PAYLOAD_TYPE or not isinstance(text, str):
        raise InvalidArgument(f"an envelope of the type {str(kind)[:100]!r}")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise InvalidArgument("an envelope with other than one signature")
    payload = unspelled(text, "an envelope's payload")
    only = _object(signatures[0], "an envelope's signature")
    signature = decoded(only.get("sig"), "an envelope's signature")
    return Claim(encoded(kind, payload), signature, partial(_subject, payload, digest))


def encoded(kind: str, payload: bytes) -> bytes:
    """Return the bytes of which DSSE signatures are: type and payload, each with its length."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def _subject(payload: bytes, digest: str) -> Reference | None:
    """Return the name that a statement is for, if it has one; InvalidArgument: of another."""
    statement = _object(_parsed(payload, "a statement"), "a statement")
    if statement.get("_type") not in STATEMENTS:
        raise InvalidArgument(f"a statement of the type {str(statement.get('_type'))[:100]!r}")
    predicate = statement.get("predicateType")
    if predicate != PREDICATE:
        raise InvalidArgument(attestation(predicate))
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise InvalidArgument("a statement of other than one subject")
    subject = _object(subjects[0], "a statement's subject")
    wanted = Digest.parse(digest)
    if subject.get("digest") != {wanted.algorithm: wanted.hex}:
        raise InvalidArgument(f"it is for {str(subject.get('digest'))[:160]!r}")
    name = subject.get("name", "")
    if not isinstance(name, str):
        raise InvalidArgument("a statement's subject: its name is none")
    return named(name) if name else None


def attestation(predicate: object) -> str:
    """Return why a statement of another predicate type is none."""
    return f"one is an attestation ({str(predicate)[:100]!r}) and no signature of the image"


# A signature of the manifest itself


def _message(found: dict[str, Any], manifest: bytes) -> Claim:
    said = found.get("messageDigest")
    if said is not None:
        said = _object(said, "a bundle's digest")
        value = base64.b64encode(bytes.fromhex(Digest.of(manifest).hex)).decode()
        if said.get("algorithm") != "SHA2_256" or said.get("digest") != value:
            raise InvalidArgument("it is for another digest")
    return Claim(manifest, decoded(found.get("signature"), "a bundle's signature"), _nobody)


def _nobody() -> None:
    """A manifest names no repository."""
