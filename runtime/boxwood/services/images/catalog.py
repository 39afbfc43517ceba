"""The images that are here and their names: records, and what of them is held in memory.

An image is a record; its config is a blob of the content store. A name is a record of its own, so
that moving a tag is one write: key the canonical reference, body the image it points to.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument, NotFound
from boxwood.model.descriptor import DOCUMENT_LIMIT
from boxwood.model.digest import Digest, chain_ids
from boxwood.model.image import Image, ImageConfig
from boxwood.model.reference import Reference
from boxwood.model.wire import Wire, encode, replace
from boxwood.services.images.documents import Documents

if TYPE_CHECKING:
    from boxwood.store.content import ContentStore
    from boxwood.store.database import Database
    from boxwood.store.layers import LayerStore

log = logging.getLogger(__name__)

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})", re.ASCII)


class ImageRecord(Wire):
    """What the database keeps of an image beside its config."""

    size: int = 0
    loaded_at: int = 0
    tagged_at: int = 0
    parent: str = ""


class TagRecord(Wire):
    """What a name points to."""

    image: str


class Catalog:
    """All images by id and by name. Changes go to the database first, then to memory."""

    def __init__(self, database: Database, content: ContentStore, layers: LayerStore) -> None:
        self._database = database
        self._content = content
        self._layers = layers
        self._image_records = database.records("images")
        self._tag_records = database.records("tags")
        self._images: dict[str, Image] = {}
        self._tags: dict[str, str] = {}
        self._documents: Documents | None = None
        self.unusable: dict[str, str] = {}
        """Images that have a record and cannot be used, and why."""

    def load(self) -> list[str]:
        """Read the records; returns what could not be kept, in sentences.

        An image whose config or layers are gone cannot be used; its record stays, and nothing is
        collected while there is such a one, so that a repaired disk or a newer engine finds all.
        """
        done: list[str] = []
        self._images.clear()
        self._tags.clear()
        self._documents = None
        self.unusable.clear()
        names: dict[str, list[str]] = {}
        for name, body in self._tag_records.load_all():
            image = msgspec.json.decode(body, type=TagRecord).image
            self._tags[name] = image
            names.setdefault(image, []).append(name)
        for key, body in self._image_records.load_all():
            try:
                record = msgspec.json.decode(body, type=ImageRecord)
                self._images[key] = self._image(Digest.parse(key), record, names.get(key, []))
            except (BoxwoodError, msgspec.MsgspecError) as error:
                self.unusable[key] = str(error)
                done.append(f"cannot use the image {key}: {error}")
        for name in [name for name, image in self._tags.items() if image not in self._images]:
            del self._tags[name]
            done.append(f"cannot use the name {name}: its image is not usable")
        return done

    def _image(self, key: Digest, record: ImageRecord, names: list[str]) -> Image:
        document = self._content.read(key, DOCUMENT_LIMIT)
        config = ImageConfig.parse(document)
        image = _with_names(_image_of(key, document, config, record), names)
        for chain in image.chain_ids:
            if not self._layers.has(chain):
                raise DataLoss(f"image: {key}: its layer {chain} is gone")
        return image

    # Looking

    def all(self) -> list[Image]:
        """Return all images."""
        return list(self._images.values())

    def chains(self) -> set[str]:
        """Return the chain IDs of all images' layers."""
        return {chain for image in self._images.values() for chain in image.chain_ids}

    def by_id(self, key: str) -> Image | None:
        """Return the image of a full id."""
        return self._images.get(key)

    def by_name(self, reference: Reference) -> Image | None:
        """Return the image of a reference; without tag or digest its ``latest``."""
        reference = reference.with_default_tag()
        found = self._tags.get(str(reference))
        if found is None and reference.digest is not None and reference.tag is not None:
            # "name:tag@digest" is that digest, whatever the tag points to by now.
            found = self._tags.get(f"{reference.name}@{reference.digest}")
        return self._images.get(found) if found else None

    def by_prefix(self, text: str) -> Image | None:
        """Return the only image whose id starts so; None when there is none or more."""
        found = _PREFIX.fullmatch(text)
        if found is None:
            return None
        matches = [image for image in self._images.values() if image.hex.startswith(found[1])]
        return matches[0] if len(matches) == 1 else None

    def get(self, text: str) -> Image:
        """Return the image that a client means: an id, a name, a prefix of an id.

        Raises:
            NotFound: ``No such image: X``.
            InvalidArgument: it can be none of them.
        """
        key = text if text.startswith("sha256:") else f"sha256:{text}"
        if (image := self._images.get(key)) is not None:
            return image
        try:
            image = self.by_name(Reference.parse(text))
        except InvalidArgument:
            if _PREFIX.fullmatch(text) is None:
                raise
        image = image or self.by_prefix(text)
        if image is None:
            raise NotFound(f"No such image: {_shown(text)}")
        return image

    def children(self, key: str) -> Iterator[Image]:
        """Yield the images that were built on this one here."""
        return (image for image in self._images.values() if image.parent == key)

    # Changing

    def add(
        self, config: ImageConfig, document: bytes, names: list[Reference], parent: str = ""
    ) -> tuple[Image, dict[str, str]]:
        """Record an image whose config and layers are stored, and its names, in one transaction.

        On disk when this returns: the layers are, and what is acknowledged survives a power cut.

        Returns:
            The image, and for each name that pointed to another one the id of that.
        """
        key = str(Digest.of(document))
        known = self._images.get(key)
        now = time.time_ns()
        record = ImageRecord(
            size=self._layers.size(_chains(config)),
            loaded_at=known.loaded_at if known else now,
            tagged_at=now if names else (known.tagged_at if known else 0),
            parent=parent or (known.parent if known else ""),
        )
        moved = {
            str(name): old
            for name in names
            if (old := self._tags.get(str(name))) is not None and old != key
        }
        with self._database.durable(), self._database.transaction():
            self._image_records.put(key, encode(record))
            for name in names:
                self._tag_records.put(str(name), encode(TagRecord(image=key)))
        self._images[key] = _image_of(key, document, config, record)
        self.unusable.pop(key, None)
        self._tags.update({str(name): key for name in names})
        for name in names:
            self._known().add(str(name))
        self._rename(key, *moved.values())
        return self._images[key], moved

    def tag(self, image: Image, name: Reference) -> None:
        """Point a name to an image."""
        record = ImageRecord(
            size=image.size,
            loaded_at=image.loaded_at,
            tagged_at=time.time_ns(),
            parent=image.parent,
        )
        old = self._tags.get(str(name))
        with self._database.transaction():
            self._image_records.put(image.id, encode(record))
            self._tag_records.put(str(name), encode(TagRecord(image=image.id)))
        self._tags[str(name)] = image.id
        self._known().add(str(name))
        self._images[image.id] = replace(image, tagged_at=record.tagged_at)
        self._rename(image.id, *([old] if old else []))

    def untag(self, name: str) -> None:
        """Forget a name, given in its canonical form."""
        documents = self._known()
        self._tag_records.delete(name)
        key = self._tags.pop(name)
        self._rename(key)
        for digest in documents.drop(name):
            self._content.delete(digest)

    def manifests(self) -> set[Digest]:
        """Return the digests of the manifests that images came with, as far as they are here."""
        return self._known().all()

    def _known(self) -> Documents:
        """Return what names with digests stand for, read when it is first asked for."""
        if self._documents is None:
            self._documents = Documents(self._content, self._tags)
        return self._documents

    def delete(self, key: str) -> None:
        """Forget an image that has no name any more, then its config.

        After a power cut it must not be back without its files, which are removed next.
        """
        with self._database.durable():
            self._image_records.delete(key)
        del self._images[key]
        self._content.delete(Digest.parse(key))

    def forget_unusable(self, key: str) -> None:
        """Give up an image that cannot be used, with its names."""
        with self._database.transaction():
            self._image_records.delete(key)
            for name, body in list(self._tag_records.load_all()):
                if msgspec.json.decode(body, type=TagRecord).image == key:
                    self._tag_records.delete(name)
        del self.unusable[key]
        self._content.delete(Digest.parse(key))

    def _rename(self, *keys: str) -> None:
        for key in keys:
            if (image := self._images.get(key)) is not None:
                names = [name for name, target in self._tags.items() if target == key]
                self._images[key] = _with_names(image, names)


def _chains(config: ImageConfig) -> tuple[str, ...]:
    return chain_ids(config.rootfs.diff_ids)


def _image_of(key: str, document: bytes, config: ImageConfig, record: ImageRecord) -> Image:
    """Put the stored document and what is recorded of it together; without names yet."""
    return Image(
        id=str(key),
        document=document,
        config=config,
        size=record.size,
        loaded_at=record.loaded_at,
        tagged_at=record.tagged_at,
        parent=record.parent,
    )


def _with_names(image: Image, names: list[str]) -> Image:
    return replace(
        image,
        tags=tuple(sorted(name for name in names if "@" not in name)),
        digests=tuple(sorted(name for name in names if "@" in name)),
    )


def _shown(text: str) -> str:
    """Return the name as Docker repeats it: with ``latest`` where it was left out."""
    try:
        return Reference.parse(text).with_default_tag().familiar
    except InvalidArgument:
        return text


def familiar(name: str) -> str:
    """Return a canonical name as people write it."""
    return Reference.parse(name).familiar
