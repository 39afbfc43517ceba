"""What a signature claims, and cosign's first form of it: "simple signing".

A *payload*, a small JSON document, names an image's manifest digest and its repository. It is a
layer of a manifest of its own; what a key made of it is an annotation of that layer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from boxwood.errors import InvalidArgument
from boxwood.model.descriptor import Descriptor
from boxwood.model.reference import Reference

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""What such a signature is called among the referrers."""
ANNOTATION = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"

PAYLOAD_LIMIT = 64 << 10
"""Bytes of a payload: a real one has some hundred."""
SIGNATURE_LIMIT = 4096
"""Characters: the signature of the longest RSA keys has 2048."""


class Claim(msgspec.Struct, frozen=True):
    """A signature that may be one of an image.

    Attributes:
        message: the bytes that were signed.
        signature: what a key made of them.
        identity: reads what they say, once the signature holds: returns the name that they are
            for, None where they bear none; raises InvalidArgument where they are not of the image.
    """

    message: bytes
    signature: bytes
    identity: Callable[[], Reference | None]


def simple(layer: Descriptor, payload: bytes, digest: str) -> Claim:
    """Return the claim of a payload about ``digest``; raises InvalidArgument: no signature."""
    text = (layer.annotations or {}).get(ANNOTATION, "")
    signature = decoded(text, f"{layer.digest}: its signature")
    return Claim(payload, signature, partial(_identity, payload, digest))


def decoded(text: object, what: str) -> bytes:
    """Return the bytes of a signature in base64 (RFC 4648 section 4), of its one spelling.

    Raises:
        InvalidArgument: ``what`` is none, or too long.
    """
    if not isinstance(text, str) or not text or len(text) > SIGNATURE_LIMIT:
        raise InvalidArgument(f"{what} is missing")
    return unspelled(text, what)


def unspelled(text: str, what: str) -> bytes:
    """Return the bytes of base64; raises InvalidArgument where they are written otherwise."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise InvalidArgument(f"{what} is not base64")
    return data


def _identity(payload: bytes, digest: str) -> Reference:
    """Return the name that a payload is for; raises InvalidArgument: it is not of this digest."""
    try:
        critical = document(payload)["critical"]
        kind, said = critical["type"], critical["image"]["docker-manifest-digest"]
        name = critical["identity"]["docker-reference"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"its payload is none: {error}") from error
    if kind != TYPE or not isinstance(said, str) or not isinstance(name, str):
        raise InvalidArgument(f"its payload is not a {TYPE}")
    if said != digest:
        raise InvalidArgument(f"it is for {said[:80]!r}")
    return named(name)


def named(name: str) -> Reference:
    """Return a name that was signed for; raises InvalidArgument."""
    try:
        return Reference.parse(name)
    except InvalidArgument:
        raise InvalidArgument(f"it is for {name[:80]!r}") from None


def document(data: bytes) -> Any:
    """Return a JSON document in which nothing is said twice; raises ValueError, RecursionError."""
    return json.loads(data, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says something twice: another reader may take the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found
