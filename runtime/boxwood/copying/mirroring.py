"""All tags of a repository, or some, to another: only what is missing, and what is said of them."""

from __future__ import annotations

import asyncio
import fnmatch
from typing import TYPE_CHECKING, NamedTuple

from boxwood.copying.copying import Copy, Say, chosen
from boxwood.errors import BoxwoodError, NotFound, Unsupported
from boxwood.model.digest import Digest

if TYPE_CHECKING:
    from boxwood.copying.ends import End
    from boxwood.model.platform import Platform

PARALLEL = 4
"""Tags on their way at once."""
ABOUT = ("", ".sig", ".att", ".sbom")
"""What follows ``sha256-HEX`` in the tags of manifests about another: referrers, cosign's."""


class Choice(NamedTuple):
    """What of a repository is wanted.

    Attributes:
        tags: patterns; none: all.
        without: patterns of tags that are left out, whatever the others say.
        platform: of an index only this platform's image goes, under the tag; None: all of it.
        dry: nothing is written; it is said what would be.
    """

    tags: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    platform: Platform | None = None
    dry: bool = False


class Tally:
    """What a mirror did, by number of tags; the sum of several too."""

    def __init__(self, *, dry: bool = False) -> None:
        self.copied = self.there = self.failed = self.attached = 0
        self._word = "to copy" if dry else "copied"

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.copied += other.copied
        self.there += other.there
        self.failed += other.failed
        self.attached += other.attached

    def __str__(self) -> str:
        whole = self.copied + self.there + self.failed
        said = f"{whole} tags: {self.copied} {self._word}, {self.there} up to date"
        said = f"{said}, {self.failed} failed"
        return f"{said}; {self.attached} signatures and the like" if self.attached else said


class Mirror:
    """One repository's way to another."""

    def __init__(self, source: End, target: End, choice: Choice, say: Say) -> None:
        self._source, self._target, self._say = source, target, say
        self._choice = choice
        self._slots = asyncio.Semaphore(PARALLEL)
        self._tally = Tally(dry=choice.dry)

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
        tags, without, *_ = self._choice
        wanted = not tags or any(fnmatch.fnmatchcase(tag, glob) for glob in tags)
        return wanted and not any(fnmatch.fnmatchcase(tag, glob) for glob in without)

    def _missing(self, count: int) -> str:
        if not count:
            return "yet"
        globs, without = self._choice.tags, self._choice.without
        matches = f" matches {_either(globs)}" if globs else ""
        return f"{matches}{f' without {_either(without)}' if without else ''}, of {count}".strip()

    async def _tag(self, tag: str, known: set[str]) -> BaseException | None:
        tally = self._tally
        async with self._slots:
            try:
                copied, digest = await self._one(tag)
                if copied:
                    tally.copied += 1
                    self._say(f"{tag}: {'to copy' if self._choice.dry else 'copied'} ({digest})")
                else:
                    tally.there += 1
                await self._attached(digest, known)
            except BoxwoodError as error:
                tally.failed += 1
                self._say(f"{tag}: failed: {error}")
                return error
        return None

    async def _one(self, tag: str) -> tuple[bool, Digest]:
        """Copy a tag unless it is there; returns whether it was not, and its digest."""
        source, target, platform = self._source, self._target, self._choice.platform
        here = source.at(source.transport.tagged(source.name, tag))
        there = target.at(target.transport.tagged(target.name, tag))
        top = await here.transport.resolve(here.name, here.credentials)
        if platform is not None:
            top = await chosen(here, top, platform)
        if await _digest(there) == top.digest:
            return False, Digest.parse(top.digest)
        if not self._choice.dry:  # the tag may have moved since
            top = await Copy(
                here, there, whole=platform is None, platform=platform, say=_quiet
            ).run()
        return True, Digest.parse(top.digest)

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
            if not self._choice.dry:
                await Copy(here, there, whole=True, platform=None, say=_quiet).run()
            self._tally.attached += 1


async def _digest(end: End) -> str:
    """Return what a name is there; empty: nothing, or no such repository yet."""
    try:
        return (await end.transport.resolve(end.name, end.credentials)).digest
    except NotFound:
        return ""


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)


def _quiet(text: str) -> None:
    del text
