"""All tags of a repository, or some, to another: only what is missing, and what is said of them."""

from __future__ import annotations

import asyncio
import fnmatch
from typing import TYPE_CHECKING

from boxwood.copying.copying import Copy, Say
from boxwood.errors import BoxwoodError, NotFound, Unsupported
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwood.copying.ends import End

PARALLEL = 4
"""Tags on their way at once."""
ABOUT = ("", ".sig", ".att", ".sbom")
"""What follows ``sha256-HEX`` in the tags of manifests about another: referrers, cosign's."""


class Tally:
    """What a mirror did, by number of tags."""

    def __init__(self) -> None:
        self.copied = self.there = self.failed = self.attached = 0

    def __str__(self) -> str:
        whole = self.copied + self.there + self.failed
        said = f"{whole} tags: {self.copied} copied, {self.there} up to date, {self.failed} failed"
        return f"{said}; {self.attached} signatures and the like" if self.attached else said


class Mirror:
    """One repository's way to another."""

    def __init__(self, source: End, target: End, globs: Sequence[str], say: Say) -> None:
        """``globs``: which tags; none: all."""
        self._source, self._target, self._say = source, target, say
        self._globs = tuple(globs)
        self._slots = asyncio.Semaphore(PARALLEL)
        self._tally = Tally()

    async def run(self) -> Tally:
        """Copy what is missing; what fails is said, and the rest goes on.

        Raises:
            NotFound: no such repository, or no such tag in it.
            Unsupported: one of the two places has no tags.
        """
        source = self._source
        tags = await source.transport.tags(source.name, source.credentials)
        wanted = [tag for tag in tags if self._wants(tag)]
        if not wanted:
            raise NotFound(f"mirror {source}: no tag there {self._missing(len(tags))}")
        known = set(tags)
        for done in await asyncio.gather(*(self._tag(tag, known) for tag in wanted)):
            if isinstance(done, Unsupported):
                raise done
        return self._tally

    def _wants(self, tag: str) -> bool:
        return not self._globs or any(fnmatch.fnmatchcase(tag, glob) for glob in self._globs)

    def _missing(self, count: int) -> str:
        return f"matches {' or '.join(self._globs)}, of {count}" if self._globs else "yet"

    async def _tag(self, tag: str, known: set[str]) -> BaseException | None:
        tally = self._tally
        async with self._slots:
            try:
                copied, digest = await self._one(tag)
                if copied:
                    tally.copied += 1
                    self._say(f"{tag}: copied ({digest})")
                else:
                    tally.there += 1
                await self._attached(digest, known)
            except BoxwoodError as error:
                tally.failed += 1
                self._say(f"{tag}: failed: {error}")
                return error
        return None

    async def _one(self, tag: str) -> tuple[bool, Digest]:
        """Copy a tag unless it is there; returns whether it was, and its digest."""
        source, target = self._source, self._target
        here = source.at(source.transport.tagged(source.name, tag))
        there = target.at(target.transport.tagged(target.name, tag))
        top = await here.transport.resolve(here.name, here.credentials)
        if await _digest(there) == top.digest:
            return False, Digest.parse(top.digest)
        done = await Copy(here, there, whole=True, platform=None, say=_quiet).run()
        return True, Digest.parse(done.digest)

    async def _attached(self, digest: Digest, known: set[str]) -> None:
        """Copy what is about a manifest: by tag where the tags were chosen, and referrers."""
        stem = f"{digest.algorithm}-{digest.hex}"
        for tag in [stem + end for end in ABOUT]:
            if tag in known and not self._wants(tag) and (await self._one(tag))[0]:
                self._tally.attached += 1
        source, target = self._source, self._target
        for entry in await source.transport.referrers(
            source.name, digest, credentials=source.credentials
        ):
            found = Digest.parse(entry.digest)
            there = target.at(target.transport.pinned(target.name, found))
            if await _digest(there) == found:
                continue
            here = source.at(source.transport.pinned(source.name, found))
            await Copy(here, there, whole=True, platform=None, say=_quiet).run()
            self._tally.attached += 1


async def _digest(end: End) -> str:
    """Return what a name is there; empty: nothing, or no such repository yet."""
    try:
        return (await end.transport.resolve(end.name, end.credentials)).digest
    except NotFound:
        return ""


def _quiet(text: str) -> None:
    del text
