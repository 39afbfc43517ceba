"""``boxwood bench registry``, behind the command line's declaration."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from boxwood.bench import frame, registry, trees
from boxwood.bench.command import QUICK_ROUNDS, ROUNDS, Wanted, chosen, interrupt, show, tell
from boxwood.errors import BoxwoodError
from boxwood.execution.worker import WorkerPool


def main(wanted: Wanted) -> int:
    """Run the bench and print what came of it; 0, or 1 when nothing at all could be measured.

    Raises:
        InvalidArgument, OSError
    """
    schemes = chosen("registry", wanted)
    old = frame.read_report(Path(wanted.compare)) if wanted.compare else None
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        report = asyncio.run(_measure(wanted, schemes))
    finally:
        signal.signal(signal.SIGTERM, previous)
        tell("")
    return show(report, old, wanted)


async def _measure(wanted: Wanted, schemes: Sequence[str]) -> frame.Report:
    seed = wanted.seed if wanted.seed >= 0 else secrets.randbelow(1 << 31)
    shape = trees.QUICK if wanted.quick else trees.Shape()
    rounds = wanted.rounds or (QUICK_ROUNDS if wanted.quick else ROUNDS)
    run = frame.Run("registry", rounds, seed, tell)
    room = Path(tempfile.mkdtemp(prefix="boxwood-bench-", dir=wanted.folder or None))
    workers = WorkerPool()
    try:
        layers = await asyncio.to_thread(trees.write_layers, room, shape, seed)
        async with AsyncExitStack() as stack:
            cases: list[frame.Case] = []
            for scheme in schemes:
                (room / scheme).mkdir()
                try:
                    bed = await stack.enter_async_context(
                        registry.bed(scheme, room / scheme, layers, workers.offload)
                    )
                except (BoxwoodError, OSError) as error:
                    run.leave_out(scheme, str(error))
                    continue
                cases += registry.cases(scheme, bed)
            await run.measure(cases)
    finally:
        await workers.close()
        shutil.rmtree(room)
    return run.report()
