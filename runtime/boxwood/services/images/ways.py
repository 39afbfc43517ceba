"""The ways to one blob: each pull that waits for it brings its own, one at a time is used.

So a registry that fails, or gives other bytes, fails nobody but those who pull from it: the blob
is the same by its digest, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

Fetch = Callable[[int], AsyncIterator[bytes]]
"""Opens the content at an offset in bytes."""
FetchPart = Callable[[int, int], AsyncIterator[bytes]]
"""Opens a part of the content, from an offset to another one; raises Unsupported where the peer
gives no parts."""


class Way(NamedTuple):
    """How a blob is fetched: ``attempts`` in all, over ``connections`` at most."""

    fetch: Fetch
    part: FetchPart | None
    attempts: int
    connections: int


class Ways:
    """All ways of those who wait. ``now`` is the one that is used: the first."""

    def __init__(self, first: Way) -> None:
        self.now = first
        self._all = [first]

    def __len__(self) -> int:
        return len(self._all)

    @property
    def others(self) -> bool:
        """Is there another one than that in use?"""
        return any(way is not self.now for way in self._all)

    def add(self, way: Way) -> None:
        """One more waits."""
        self._all.append(way)

    def remove(self, way: Way) -> None:
        """Whoever brought it has left. One that is in use stays that until it fails. Idempotent."""
        self._all = [one for one in self._all if one is not way]

    def failed(self) -> bool:
        """Leave the one in use for the next one, for good; False: there is none."""
        self.remove(self.now)
        if self._all:
            self.now = self._all[0]
        return bool(self._all)

    def turn(self) -> None:
        """Use the next one, the one in use is the last from now on; alone, it stays in use."""
        others = [one for one in self._all if one is not self.now]
        self._all = others + [one for one in self._all if one is self.now]
        if self._all:
            self.now = self._all[0]
