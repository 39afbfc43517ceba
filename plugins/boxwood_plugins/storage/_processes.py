"""Waiting for a process that was started, in the event loop."""

from __future__ import annotations

import asyncio
import os


async def ended(pid: int) -> None:
    """Wait for the end of a child, without reaping it."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)
    done: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(pidfd, _settle, done)
        await done
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
