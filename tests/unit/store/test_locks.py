"""Locks by key."""

from __future__ import annotations

import asyncio

from boxwood.store.locks import KeyedLocks


async def test_one_at_a_time_for_a_key_and_nothing_is_kept() -> None:
    locks = KeyedLocks()
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with locks.hold("k"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert not locks.held("k")
    assert locks._locks == {}


async def test_keys_do_not_wait_for_each_other() -> None:
    locks = KeyedLocks()
    async with locks.hold("a"), asyncio.timeout(1), locks.hold("b"):
        assert locks.held("a")
        assert locks.held("b")
