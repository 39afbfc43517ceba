"""What the mirrors that apt is configured for have: their Release files."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from boxwood.errors import DataLoss, NotFound, Unavailable
from boxwood_plugins.registry.debootstrap.tools import Tools

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
_POCKETS = ("", "-updates", "-security")
"""Suites of one release: the archive itself, and what is added to it."""
_SIZE_LIMIT = 4 << 20


class Source(msgspec.Struct, frozen=True):
    """A line of apt's sources."""

    uri: str
    suite: str
    components: tuple[str, ...]

    @property
    def line(self) -> str:
        """Return it in the one-line form (sources.list(5))."""
        return f"deb {self.uri} {self.suite} {' '.join(self.components)}"


class State(msgspec.Struct, frozen=True):
    """What the mirrors have at one moment.

    Attributes:
        sources: those that have a Release file.
        digest: of these files, in hexadecimal digits.
        epoch: seconds; when the newest of them was made.
        origin: who says that it is theirs (``debian``).
    """

    sources: tuple[Source, ...]
    digest: str
    epoch: int
    origin: str


async def sources(suite: str, tools: Tools) -> tuple[Source, ...]:
    """Return the sources of a suite on apt's mirrors, the main archive first.

    Suites that apt is not configured for are looked for on the same mirrors.

    Raises:
        Unavailable: apt has no sources.
    """
    text = await tools.read("apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages")
    found: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        uri, release, component = line.split("\t")
        found.setdefault((uri, release), []).append(component)
    if not found:
        raise Unavailable(
            f"debootstrap: {suite}: apt knows no mirror: write one into /etc/apt/sources.list "
            "and run apt-get update"
        )
    configured = [suite + pocket for pocket in _POCKETS]
    if any(release == suite for _, release in found):
        chosen = [(key, key[1]) for key in found if key[1] in configured]
    else:
        _, own = next(iter(found))
        pockets = {own + pocket: pocket for pocket in _POCKETS}
        chosen = [(key, suite + pockets[key[1]]) for key in found if key[1] in pockets]
    chosen.sort(key=lambda item: configured.index(item[1]))
    return tuple(
        Source(uri, name, tuple(sorted(set(found[uri, release]))))
        for (uri, release), name in chosen
    )


async def look(suite: str, tools: Tools) -> State:
    """Fetch the Release files of a suite.

    Raises:
        NotFound: no mirror has it.
        Unavailable: no mirror is reached.
    """
    there: list[Source] = []
    documents: list[bytes] = []
    for number, source in enumerate(await sources(suite, tools)):
        path = tools.directory / f"release.{number}"
        try:
            documents.append(await _fetch(source, path, tools))
        except NotFound:
            if not there:
                raise
            continue  # not every release has updates of its own
        there.append(source)
    dates = [_date(document, source) for document, source in zip(documents, there, strict=True)]
    total = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in documents))
    origin = _field(documents[0], "Origin").lower()
    known = re.fullmatch(r"[a-z0-9]+", origin)
    return State(tuple(there), total.hexdigest(), max(dates), origin if known else "debian")


async def _fetch(source: Source, path: Path, tools: Tools) -> bytes:
    url = f"{source.uri.rstrip('/')}/dists/{source.suite}/InRelease"
    try:
        await tools.read("/usr/lib/apt/apt-helper", "download-file", url, str(path))
    except Unavailable as error:
        if "404" in str(error):
            raise NotFound(f"debootstrap: no suite {source.suite} on {source.uri}") from error
        raise
    if path.stat().st_size > _SIZE_LIMIT:
        raise DataLoss(f"debootstrap: {url}: larger than {_SIZE_LIMIT} bytes")
    return await asyncio.to_thread(path.read_bytes)


def _date(document: bytes, source: Source) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(_field(document, "Date")).timestamp())
    except ValueError as error:
        raise DataLoss(f"debootstrap: {source.suite} on {source.uri}: no date") from error


def _field(document: bytes, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)$", document.decode(errors="replace"), re.MULTILINE)
    return found[1].strip() if found else ""
