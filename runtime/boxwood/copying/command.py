"""What the command line asks of a copy: everything as text, errors as ours, an exit code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from boxwood.copying.copying import Copy, Say
from boxwood.copying.ends import Place, opened
from boxwood.copying.mirroring import Mirror
from boxwood.drivers.registry import Credentials
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


def mirror(source: Place, target: Place, tags: Sequence[str], say: Say) -> tuple[str, bool]:
    """Copy the tags of a repository; returns what was done, and whether all succeeded."""

    async def work() -> tuple[str, bool]:
        async with opened(source) as here, opened(target) as there:
            tally = await Mirror(here, there, tags, say).run()
            return str(tally), not tally.failed

    return asyncio.run(work())
