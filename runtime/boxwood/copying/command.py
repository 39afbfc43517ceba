"""What the command line asks of a copy: everything as text, errors as ours, an exit code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from boxwood.copying.copying import Copy, Say
from boxwood.copying.ends import Place, opened
from boxwood.copying.mirroring import Choice, Mirror, Tally
from boxwood.drivers.registry import Credentials
from boxwood.errors import BoxwoodError
from boxwood.model.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def place(text: str, login: Mapping[str, str], insecure: str = "") -> Place:
    """Return a place of a copy.

    Args:
        text: its name, with its scheme if it has one.
        login: as ``config.json`` or a flag has it; empty: none.
        insecure: the registry that need not prove its identity.
    """
    credentials = None
    if login:
        credentials = Credentials(
            login.get("username", ""), login.get("password", ""), login.get("identitytoken", "")
        )
    return Place(text, credentials, {"insecure": insecure} if insecure else {})


def copy(source: Place, target: Place, *, all: bool, platform: str, say: Say) -> str:
    """Copy one image; returns its digest. Raises what the transports say."""
    wanted = Platform.parse(platform) if platform else None

    async def work() -> str:
        async with opened(source) as here, opened(target) as there:
            done = await Copy(here, there, whole=all, platform=wanted, say=say).run()
            return done.digest

    return asyncio.run(work())


class Route(NamedTuple):
    """A repository and where its tags go; ``tags`` are patterns, none: all."""

    source: Place
    target: Place
    tags: Sequence[str]


def mirror(
    routes: Sequence[Route], *, without: Sequence[str], platform: str, dry: bool, say: Say
) -> tuple[str, bool]:
    """Copy the tags of repositories; returns what was done, and whether all succeeded.

    Of one repository what is wrong with it is raised, among several it is said.
    """
    wanted = Platform.parse(platform) if platform else None

    async def work() -> tuple[str, bool]:
        whole, failed = Tally(dry=dry), 0
        for source, target, tags in routes:
            try:
                async with opened(source) as here, opened(target) as there:
                    choice = Choice(tuple(tags), tuple(without), wanted, dry)
                    tally = await Mirror(here, there, choice, say).run()
            except BoxwoodError as error:
                if len(routes) == 1:
                    raise
                failed += 1
                say(f"{source.text}: failed: {error}")
                continue
            whole.add(tally)
            if len(routes) > 1:
                say(f"{source.text}: {tally}")
        said = f"{len(routes)} repositories, {failed} failed; " if len(routes) > 1 else ""
        return f"{said}{whole}", not (failed or whole.failed)

    return asyncio.run(work())
