"""What is there of a blob on its way: one file, filled from one place or from several.

As long as it comes from its start on, the file's size says it. Once it comes in several places at
a time, a map beside it does::

    <content>/partial/<algorithm>-<hex>
    <content>/partial/<algorithm>-<hex>.spans    JSON: [start, end of what is there, end], ...

The map is written after the bytes that it speaks of, so a killed daemon leaves one that says too
little at worst. Nothing vouches for the bytes themselves: who reads them verifies the digest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from boxwood.drivers.storage import as_boxwood_error

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".spans"
SAVE_EVERY = 4 << 20
"""Bytes that come between two states of the map: what a killed daemon fetches again at most, for
each place that it was filled from."""
MAP_LIMIT = 4096
"""Bytes of a map: it is written in one piece, over the last one, blanks after it."""


class Span:
    """One part of the file: what is there of it is before ``at``."""

    def __init__(self, start: int, at: int, end: int) -> None:
        self.start, self.at, self.end = start, at, end
        self.busy = False
        """Is somebody fetching it?"""
        self.open = False
        """Would what he fetches go on behind its end?"""

    @property
    def left(self) -> int:
        """Bytes that are not there yet."""
        return self.end - self.at


class Spans:
    """All parts of one blob's file, in order and without gaps; what is whole grows together."""

    def __init__(self, path: Path, size: int) -> None:
        self._map = path.with_name(path.name + SUFFIX)
        self.size = size
        self._all = [Span(0, 0, size)]
        self.there = 0
        """Bytes that are there, anywhere."""
        self._saved = 0

    @property
    def prefix(self) -> int:
        """Bytes that are there from the start on."""
        return self._all[0].at

    def restore(self, have: int) -> bool:
        """Take up what an earlier daemon left, a file of ``have`` bytes. False: it is unusable."""
        try:
            spans = [Span(*one) for one in msgspec.json.decode(
                self._map.read_bytes(), type=list[tuple[int, int, int]])]  # fmt: skip
        except FileNotFoundError:
            spans = [Span(0, have, self.size)]
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return False
        ends = [0, *(span.end for span in spans)]
        whole = ends[-1] == self.size and all(
            span.start == end and span.start <= span.at <= span.end
            for span, end in zip(spans, ends, strict=False)
        )
        if not spans or not whole or any(span.at > max(have, span.start) for span in spans):
            return False
        self._all = spans
        self.there = self._saved = sum(span.at - span.start for span in spans)
        self._join()
        return True

    def take(self) -> Span | None:
        """Return the first part that is not whole and that nobody fetches; it is taken."""
        for span in self._all:
            if span.left and not span.busy:
                span.busy = True
                return span
        return None

    def split(self, least: int, most: int = 0) -> Span | None:
        """Take the second half of what is left of the largest part that is being fetched.

        Of that the last ``most`` bytes only, unless it is 0. None: no half would have ``least``
        bytes. The map is written before anything is.

        Raises:
            ResourceExhausted
        """
        largest = max(
            (span for span in self._all if span.busy), key=lambda span: span.left, default=None
        )
        if largest is None or largest.left < 2 * least:
            return None
        half = largest.left // 2
        middle = largest.end - (min(half, most) if most else half)
        made = Span(middle, middle, largest.end)
        made.busy = True
        largest.end = middle
        self._all.insert(self._all.index(largest) + 1, made)
        self.save()
        return made

    def grew(self, span: Span, count: int) -> None:
        """So many more bytes of a part have been written; raises ResourceExhausted."""
        span.at += count
        self.there += count
        if len(self._all) > 1:
            if self.there - self._saved >= SAVE_EVERY:
                self.save()
            self._join()

    def give_back(self, span: Span) -> None:
        """Nobody fetches this part any longer; it joins the one before, where that would go on."""
        span.busy = False
        at = self._all.index(span) if span in self._all else 0
        before = self._all[at - 1] if at else None
        going_on = before is not None and before.busy and before.open and before.left
        if before is not None and going_on and span.at == span.start:
            before.end = span.end
            self._all.remove(span)
        self._join()

    def _join(self) -> None:
        """Let what is whole at the start grow into the next part; with one part left, the file's
        size says all again."""
        while len(self._all) > 1 and not self._all[0].left and not self._all[0].busy:
            first = self._all.pop(0)
            self._all[0].start = first.start
        if len(self._all) == 1:
            self.forget_map()

    def save(self) -> None:
        """Write the map, unless there is one part only; raises ResourceExhausted."""
        if len(self._all) < 2:
            return
        body = msgspec.json.encode([(span.start, span.at, span.end) for span in self._all])
        if len(body) > MAP_LIMIT:
            return  # the last one says less, and nothing wrong
        try:
            fd = os.open(self._map, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, body.ljust(MAP_LIMIT), 0)
            finally:
                os.close(fd)
        except OSError as error:
            raise as_boxwood_error("download", self._map.name, error) from error
        self._saved = self.there

    def forget_map(self) -> None:
        """The file's size says it again, or nothing is there."""
        self._map.unlink(missing_ok=True)
