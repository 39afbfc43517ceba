"""Removing images: names first, then the image, then what only it needed.

The conflicts and their words are Docker's: *soft* ones yield to force (a stopped container, several
names), *hard* ones do not (a running container, images built on it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from boxwood.errors import Conflict, InvalidArgument
from boxwood.model.image import Image
from boxwood.model.reference import Reference
from boxwood.services.images.catalog import Catalog, familiar

if TYPE_CHECKING:
    from boxwood.model.container import Container

InUse = Callable[[str], Sequence["Container"]]
Publish = Callable[..., object]


class Removal:
    """One request to remove an image; :meth:`run` says what went."""

    def __init__(
        self,
        catalog: Catalog,
        in_use: InUse,
        publish: Publish,
        drop_layers: Callable[[], list[str]],
    ) -> None:
        self._catalog = catalog
        self._in_use = in_use
        self._publish = publish
        self._drop_layers = drop_layers
        self._done: list[dict[str, str]] = []

    def run(self, text: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        """Remove what ``text`` names.

        Returns:
            ``{"Untagged": name}`` and ``{"Deleted": id}`` in the order in which they went.

        Raises:
            NotFound, Conflict
        """
        image = self._catalog.get(text)
        name = self._name_of(text, image)
        if name is not None:
            self._by_name(image, name, force=force, prune=prune)
        else:
            self._by_id(image, force=force, prune=prune)
        return self._done

    def _name_of(self, text: str, image: Image) -> str | None:
        """Return the canonical name if ``text`` is one, None if it is (a part of) the id."""
        if image.id.startswith(text) or image.hex.startswith(text):
            return None
        try:
            reference = Reference.parse(text).with_default_tag()
        except InvalidArgument:
            return None
        return str(reference) if str(reference) in (*image.tags, *image.digests) else None

    def _by_name(self, image: Image, name: str, *, force: bool, prune: bool) -> None:
        if not force and _single(image):
            for container in self._in_use(image.id):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{familiar(name)}" '
                    f"(must force) - container {container.id[:12]} is using its referenced image "
                    f"{image.hex[:12]}"
                )
        self._untag(image, name)
        image = self._catalog.get(image.id)
        repository = Reference.parse(name).name
        if "@" not in name and not any(_of(repository, tag) for tag in image.tags):
            # Digests that came with the repository's tags mean nothing without them.
            for digest in image.digests:
                if _of(repository, digest):
                    self._untag(image, digest)
            image = self._catalog.get(image.id)
        if not image.tags and not image.digests and self._conflict(image, soft=not force) is None:
            self._delete(image, prune=prune)

    def _by_id(self, image: Image, *, force: bool, prune: bool) -> None:
        conflict = self._conflict(image, soft=False)
        if conflict is None and not force:
            if not _single(image):
                raise Conflict(
                    f"conflict: unable to delete {image.hex[:12]} (must be forced) - image is "
                    "referenced in multiple repositories"
                )
            conflict = self._conflict(image, soft=True)
        if conflict is not None:
            raise conflict
        for name in (*image.tags, *image.digests):
            self._untag(image, name)
        self._delete(image, prune=prune)

    def _conflict(self, image: Image, *, soft: bool) -> Conflict | None:
        short = image.hex[:12]
        containers = self._in_use(image.id)
        for container in containers:
            if container.state.running:
                return Conflict(
                    f"conflict: unable to delete {short} (cannot be forced) - image is being used "
                    f"by running container {container.id[:12]}"
                )
        if any(True for _ in self._catalog.children(image.id)):
            return Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - image has dependent "
                "child images"
            )
        if soft and containers:
            return Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is being used by "
                f"stopped container {containers[0].id[:12]}"
            )
        return None

    def _untag(self, image: Image, name: str) -> None:
        self._catalog.untag(name)
        self._done.append({"Untagged": familiar(name)})
        self._publish("image", "untag", image.id, {"name": image.id})

    def _delete(self, image: Image, *, prune: bool) -> None:
        self._catalog.delete(image.id)
        self._done.append({"Deleted": image.id})
        self._publish("image", "delete", image.id, {"name": image.id})
        self._done.extend({"Deleted": chain} for chain in self._drop_layers())
        parent = self._catalog.by_id(image.parent) if image.parent else None
        if not prune or parent is None or parent.tags or parent.digests:
            return
        if self._conflict(parent, soft=True) is None:
            self._delete(parent, prune=True)


def _of(repository: str, name: str) -> bool:
    return Reference.parse(name).name == repository


def _single(image: Image) -> bool:
    """Are all its names, if any, of one repository and at most one of them a tag?"""
    names = [*image.tags, *image.digests]
    if len(names) <= 1:
        return True
    repositories = {Reference.parse(name).name for name in names}
    return len(repositories) == 1 and len(image.tags) <= 1
