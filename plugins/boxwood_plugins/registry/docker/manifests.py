"""What a registry's answers say of a manifest: its digest, its size, its media type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import DataLoss, InvalidArgument
from boxwood.model.descriptor import DOCUMENT_LIMIT, INDEXES, MANIFESTS, Descriptor
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from boxwood.model.reference import Reference
    from boxwood_plugins.registry.docker.answers import Answer

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
SIZE = re.compile(r"\d{1,18}", re.ASCII)


def described(answer: Answer, reference: Reference) -> Descriptor | None:
    """Return what the headers say of a manifest; None: not enough."""
    digest, size = answer.headers.get("Docker-Content-Digest"), answer.headers.get("Content-Length")
    kind = answer.media_type
    known = kind in INDEXES | MANIFESTS or kind.startswith(SCHEMA1)
    if not digest or not size or SIZE.fullmatch(size) is None or not known:
        return None
    if int(size) > DOCUMENT_LIMIT:
        raise DataLoss(f"manifest of {reference.familiar}: larger than {DOCUMENT_LIMIT} bytes")
    try:
        found = Digest.parse(digest)
    except InvalidArgument as error:
        said = f"the registry says its digest is {digest[:100]!r}"
        raise DataLoss(f"manifest of {reference.familiar}: {said}") from error
    return Descriptor(media_type=kind, digest=str(found), size=int(size))


class _Kind(msgspec.Struct):
    """What a manifest says of itself."""

    media_type: str = msgspec.field(default="", name="mediaType")
    schema_version: int = msgspec.field(default=2, name="schemaVersion")


def kind_of(body: bytes, answer: Answer, reference: Reference) -> str:
    """Return a manifest's media type: its header's, or where that says nothing, its own.

    Raises:
        InvalidArgument: it is none of ours (a web page, another kind of artefact).
    """
    try:
        own = msgspec.json.decode(body, type=_Kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        own = _Kind()
    if own.schema_version == 1:
        raise too_old(reference)
    for kind in (answer.media_type, own.media_type):
        if kind in INDEXES | MANIFESTS or kind.startswith(SCHEMA1):
            return kind
    raise InvalidArgument(
        f"manifest of {reference.familiar}: {answer.media_type[:100] or 'no media type'}: "
        "not an image's"
    )


def too_old(reference: Reference) -> InvalidArgument:
    """Return the error for a manifest of schema 1, in Docker's words."""
    return InvalidArgument(
        "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 "
        f"support is removed. Suggest the author of {reference} to upgrade the image to the OCI "
        "Format or Docker Image manifest v2, schema 2."
    )
