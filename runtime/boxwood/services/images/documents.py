"""Which manifests and indexes are here for names with digests, without reading them each time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import BoxwoodError
from boxwood.model.descriptor import DOCUMENT_LIMIT, Manifest
from boxwood.model.digest import Digest
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwood.store.content import ContentStore


class Documents:
    """What each digest that some name has stands for: itself and what an index lists.

    A document is read when a name with its digest is added; the names of one digest share it.
    """

    def __init__(self, content: ContentStore, names: Iterable[str]) -> None:
        """Take the names up that are there."""
        self._content = content
        self._names: dict[Digest, set[str]] = {}
        self._below: dict[Digest, frozenset[Digest]] = {}
        self._uses: Counter[Digest] = Counter()
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Take a canonical name up; one without a digest, or known, is no error."""
        if (top := _top(name)) is None:
            return
        self._names.setdefault(top, set()).add(name)
        self._set(top, self._found(top))

    def drop(self, name: str) -> set[Digest]:
        """Forget a name; returns the documents that no other name stands for."""
        top = _top(name)
        if top is None or name not in self._names.get(top, ()):
            return set()
        self._names[top].remove(name)
        if self._names[top]:
            return set()
        del self._names[top]
        before = self._below[top]
        self._set(top, frozenset())
        del self._below[top]
        return {digest for digest in before if digest not in self._uses}

    def all(self) -> set[Digest]:
        """Return the digests of all documents."""
        return set(self._uses)

    def _set(self, top: Digest, documents: frozenset[Digest]) -> None:
        self._uses.update(documents)
        self._uses.subtract(self._below.get(top, ()))
        for digest in self._below.get(top, ()):
            if not self._uses[digest]:
                del self._uses[digest]
        self._below[top] = documents

    def _found(self, top: Digest) -> frozenset[Digest]:
        if not self._content.has(top):
            return frozenset()
        return frozenset((top, *documents_below(self._content, top)))


def documents_below(content: ContentStore, top: Digest) -> list[Digest]:
    """Return the manifests that are here of those that an index names."""
    try:
        manifest = msgspec.json.decode(content.read(top, DOCUMENT_LIMIT), type=Manifest)
    except (msgspec.MsgspecError, BoxwoodError):
        return []
    below = [Digest.parse(entry.digest) for entry in manifest.manifests or ()]
    return [digest for digest in below if content.has(digest)]


def _top(name: str) -> Digest | None:
    return Reference.parse(name).digest if "@" in name else None
