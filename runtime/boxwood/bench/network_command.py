"""``boxwood bench network``, behind the command line's declaration."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from boxwood.bench import frame, network
from boxwood.bench.command import QUICK_ROUNDS, ROUNDS, Wanted, chosen, interrupt, show, tell
from boxwood.errors import BoxwoodError, PermissionDenied
from boxwood.testing import network_world as world


def main(wanted: Wanted) -> int:
    """Run the bench and print what came of it; 0, or 1 when nothing at all could be measured.

    Raises:
        InvalidArgument, PermissionDenied, OSError
    """
    if os.geteuid() != 0:
        raise PermissionDenied("bench network: it makes network namespaces: be root")
    drivers = chosen("network", wanted)
    old = frame.read_report(Path(wanted.compare)) if wanted.compare else None
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="boxwood-bench-") as room,
            world.host(),
            world.outside() as outside,
        ):
            report = asyncio.run(_measure(wanted, drivers, Path(room), outside))
    finally:
        signal.signal(signal.SIGTERM, previous)
        tell("")
    return show(report, old, wanted)


async def _measure(
    wanted: Wanted, drivers: Sequence[str], room: Path, outside: int
) -> frame.Report:
    seed = wanted.seed if wanted.seed >= 0 else secrets.randbelow(1 << 31)
    shape = network.QUICK if wanted.quick else network.Shape()
    rounds = wanted.rounds or (QUICK_ROUNDS if wanted.quick else ROUNDS)
    run = frame.Run("network", rounds, seed, tell)
    for name in drivers:
        # One after the other: two drivers in one namespace would be in each other's way.
        async with AsyncExitStack() as stack:
            try:
                bed = await stack.enter_async_context(
                    network.bed(name, room / name, shape, outside)
                )
            except (BoxwoodError, OSError) as error:
                run.leave_out(name, str(error))
                continue
            await run.measure(network.cases(name, bed))
    return run.report()
