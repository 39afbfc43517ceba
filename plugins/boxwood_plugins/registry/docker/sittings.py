"""What one pull or push has learnt of a registry: it counts until its end, and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Sitting:
    """Things that were asked for early, so that they are not asked for twice."""

    def __init__(self, manifest_wanted: bool = False) -> None:
        self.manifest_wanted = manifest_wanted
        """Whether a manifest that is resolved will be read as well."""
        self.documents: dict[str, bytes] = {}
        """Manifests by their digest; each is taken out once."""
        self.lacking: set[tuple[str, str, str]] = set()
        """Blobs that a repository lacks: its domain, its path, the digest."""


_current: ContextVar[Sitting | None] = ContextVar("sitting", default=None)


@contextmanager
def sitting(manifest_wanted: bool) -> Iterator[None]:
    """``with sitting(False):`` in this task and its children."""
    outer, inner = _current.get(), Sitting(manifest_wanted)
    if outer is not None:  # a copy, which reads in the one and writes in the other
        inner.documents = outer.documents
    token = _current.set(inner)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Sitting:
    """Return the one of this task; outside of any, one that nobody else sees."""
    return _current.get() or Sitting()
