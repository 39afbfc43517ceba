"""The docker transport by itself, without an engine: one conversation at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from boxwood.drivers.registry import Credentials, RegistryTransport
from boxwood.model.descriptor import Descriptor
from boxwood.model.reference import Reference
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


async def fetched(
    transport: RegistryTransport[Reference],
    reference: Reference,
    descriptor: Descriptor,
    offset: int = 0,
    credentials: Credentials | None = None,
) -> bytes:
    """Return the content, from an offset on."""
    data = bytearray()
    pieces = transport.fetch(reference, descriptor, offset, credentials)
    async with aclosing(pieces) as stream:  # type: ignore[type-var]
        async for piece in stream:
            data += piece
    return bytes(data)
