"""The docker transport by itself, without an engine: one conversation at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from boxwood_plugins.registry.docker.transport import DockerTransport

Result = TypeVar("Result")


def converse(work: Callable[[DockerTransport], Awaitable[Result]], **options: str) -> Result:
    """Return what ``work`` returns; the transport is made for it with these options."""

    async def all_of_it() -> Result:
        transport = DockerTransport(options)
        try:
            return await work(transport)
        finally:
            await transport.close()

    return asyncio.run(all_of_it())
