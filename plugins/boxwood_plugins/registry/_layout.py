"""The OCI image layout, in a folder or in an archive (image-spec image-layout.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.errors import DataLoss, InvalidArgument, NotFound, TooLarge, Unsupported
from boxwood.model.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference
from boxwood.model.wire import encode, replace
from boxwood_plugins.registry._files import has, read
from boxwood_plugins.registry._names import as_reference, by_path

if TYPE_CHECKING:
    from boxwood_plugins.registry._files import Place
    from boxwood_plugins.registry._names import FileName

INDEX = "index.json"
MARK = "oci-layout"
MARKED = b'{"imageLayoutVersion": "1.0.0"}'
EMPTY = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
NAME = "org.opencontainers.image.ref.name"
WHOLE_NAME = "io.containerd.image.name"
REFERRERS_LIMIT = 1_000
"""Manifests without a name that are looked at."""
_SHOWN = 10
"""Names of images that an error lists."""


class About(Manifest):
    """A manifest that may be about another, its subject."""

    subject: Descriptor | None = None
    artifact_type: str = msgspec.field(default="", name="artifactType")

    @property
    def kind(self) -> str:
        """What it is of, in its own words (image-spec manifest.md: artifactType, config)."""
        return self.artifact_type or (self.config.media_type if self.config else "")


class _Mark(msgspec.Struct):
    version: str = msgspec.field(default="", name="imageLayoutVersion")


def blob(digest: str) -> str:
    """Return where a blob lies; raises InvalidArgument for what is no digest."""
    parsed = Digest.parse(digest)
    return f"blobs/{parsed.algorithm}/{parsed.hex}"


def check_mark(place: Place, where: str) -> None:
    """Raise NotFound, InvalidArgument, Unsupported unless the place is a layout that we know."""
    try:
        mark = msgspec.json.decode(read(place, MARK, 4096), type=_Mark)
    except NotFound as error:
        raise NotFound(f"{where}: no OCI image layout is there") from error
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{where}: not an OCI image layout: {error}") from error
    if mark.version.partition(".")[0] != "1":
        raise Unsupported(f"{where}: an OCI image layout of version {mark.version[:20]!r}")


def entries(place: Place, where: str) -> list[Descriptor]:
    """Return what the layout's index lists; raises NotFound, InvalidArgument, TooLarge."""
    check_mark(place, where)
    try:
        data = read(place, INDEX)
    except NotFound as error:  # a push has begun, and its manifest has not come
        raise NotFound(f"{where}: there is no image in it yet: {error}") from error
    try:
        index = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"{where}: its index cannot be read: {error}") from error
    return list(index.manifests or ())


def find(place: Place, name: FileName) -> Descriptor:
    """Return the manifest that a name is of.

    Raises:
        NotFound: it is not there; says what is.
        InvalidArgument: there are several, and the name does not say which.
    """
    found = entries(place, name.path)
    if name.digest:
        return _pinned(place, name, found)
    if name.image:
        found = [entry for entry in found if _is_named(entry, name.image)]
    else:
        found = [entry for entry in found if not _is_attached(entry)]
    if not found:
        raise NotFound(f"{name}: no such image there; {_listed(entries(place, name.path))}")
    if len({entry.digest for entry in found}) > 1:
        raise InvalidArgument(f"{name}: several images are there: name one; {_listed(found)}")
    entry = found[0]
    _check(entry, name)
    return entry


def _is_named(entry: Descriptor, image: str) -> bool:
    notes = entry.annotations or {}
    if image in (notes.get(NAME), notes.get(WHOLE_NAME)):
        return True
    wanted = as_reference(image)
    return wanted is not None and any(
        as_reference(notes.get(key, "")) == wanted.with_default_tag()
        for key in (WHOLE_NAME, NAME)
        if "/" in notes.get(key, "")
    )


def _is_attached(entry: Descriptor) -> bool:
    """Is it a signature or the like, and no image? It has no name, and says what it is."""
    return bool(entry.artifact_type) and not (entry.annotations or {}).get(NAME)


def _listed(found: list[Descriptor]) -> str:
    names = sorted({(entry.annotations or {}).get(NAME, "") for entry in found} - {""})
    if not names:
        return "no image there has a name"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(name[:130] for name in names[:_SHOWN])}{more}"


def _check(entry: Descriptor, name: FileName) -> None:
    Digest.parse(entry.digest)
    if entry.media_type not in INDEXES | MANIFESTS:
        raise Unsupported(f"{name}: is {entry.media_type[:100] or 'of no type'}: not an image")
    if not 0 <= entry.size <= DOCUMENT_LIMIT:
        raise DataLoss(f"{name}: a manifest of {entry.size} bytes")


def _pinned(place: Place, name: FileName, found: list[Descriptor]) -> Descriptor:
    for entry in found:
        if entry.digest == name.digest:
            _check(entry, name)
            return entry
    try:
        data = read(place, blob(name.digest))
    except NotFound:
        raise NotFound(f"{name}: no such manifest there") from None
    return Descriptor(media_type=kind_of(data), digest=name.digest, size=len(data))


def kind_of(data: bytes) -> str:
    """Return the media type that a manifest says, or its fields; raises InvalidArgument."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"a manifest that cannot be read: {error}") from error
    if manifest.media_type in INDEXES | MANIFESTS:
        return manifest.media_type
    if manifest.media_type:
        raise Unsupported(f"a document of type {manifest.media_type[:100]}: not an image")
    if manifest.manifests is not None:
        docker = any(one.media_type == DOCKER_MANIFEST for one in manifest.manifests)
        return DOCKER_LIST if docker else OCI_INDEX
    if manifest.config is None:
        raise Unsupported("a document that is no manifest")
    return DOCKER_MANIFEST if "docker" in manifest.config.media_type else OCI_MANIFEST


def local_name(name: FileName, entry: Descriptor, listed: list[Descriptor]) -> Reference | None:
    """Return what an image is called here: by its whole name, or by the folder's and a tag."""
    notes = next(
        (
            one.annotations or {}
            for one in listed
            if one.digest == entry.digest and (not name.image or _is_named(one, name.image))
        ),
        {},
    )
    for text in (notes.get(WHOLE_NAME, ""), notes.get(NAME, ""), name.image):
        if ("/" in text or ":" in text) and (found := as_reference(text)) is not None:
            return found.with_default_tag()
    return by_path(name.path, notes.get(NAME, "") or name.image)


def with_entry(index: bytes, entry: Descriptor, image: str) -> bytes:
    """Return an index with a manifest in it, under a name that is then no other's.

    What else the index says stays, known to us or not. Raises InvalidArgument.
    """
    try:
        document: dict[str, Any] = msgspec.json.decode(index, type=dict)
        listed = list(document.get("manifests") or ())
        plain = [msgspec.convert(one, Descriptor) for one in listed]
    except (msgspec.MsgspecError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"its index cannot be read: {error}") from error
    notes = dict(entry.annotations or {})
    notes.pop(NAME, None)
    if image:
        notes[NAME] = image
    kept = [
        one
        for one, known in zip(listed, plain, strict=True)
        if not _gives_way(known, entry.digest, image)
    ]
    fresh = msgspec.json.decode(
        encode(replace(entry, annotations=notes or None)), type=dict[str, Any]
    )
    kept.append({key: value for key, value in fresh.items() if value not in (None, "")})
    return msgspec.json.encode({**document, "manifests": kept})


def _gives_way(known: Descriptor, digest: str, image: str) -> bool:
    named = (known.annotations or {}).get(NAME, "")
    return named == image if image else not named and known.digest == digest


def names(found: list[Descriptor]) -> list[str]:
    """Return the names of the images that an index lists, sorted."""
    return sorted({name for one in found if (name := (one.annotations or {}).get(NAME, ""))})


def referrers(place: Place, name: FileName, digest: Digest) -> list[Descriptor]:
    """Return the manifests that are about ``digest``: those that the index lists without a name,
    and those of the list that registries without an API for them keep at a tag.

    Raises:
        NotFound, InvalidArgument, TooLarge: the layout's index.
    """
    found: dict[str, Descriptor] = {}
    looked = 0
    for entry in entries(place, name.path):
        named = (entry.annotations or {}).get(NAME, "")
        if named == digest.referrers_tag:
            found |= {one.digest: one for one in about(place, entry).manifests or ()}
        elif not named and entry.media_type == OCI_MANIFEST and looked < REFERRERS_LIMIT:
            looked += 1
            said = about(place, entry)
            if said.subject is not None and said.subject.digest == digest:
                found[entry.digest] = replace(
                    entry, artifact_type=said.kind, annotations=said.annotations
                )
    return list(found.values())


def about(place: Place, entry: Descriptor) -> About:
    """Return a manifest of the layout; one that cannot be read says nothing."""
    try:
        return msgspec.json.decode(read(place, blob(entry.digest)), type=About)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return About()
    except (NotFound, InvalidArgument, TooLarge, DataLoss):
        return About()


def has_mark(place: Place) -> bool:
    """Does the place say that it is a layout?"""
    return has(place, MARK)
