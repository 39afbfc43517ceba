"""``boxwood bench storage``, behind the command line's declaration."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import msgspec

from boxwood.bench import frame, page, places, storage, text, trees
from boxwood.drivers import manager
from boxwood.errors import BoxwoodError, InvalidArgument, PermissionDenied
from boxwood.execution.worker import WorkerPool

ROUNDS, QUICK_ROUNDS = 10, 5
_PLACE_BYTES = 8 << 30
_QUICK_BYTES = 1 << 30
DEFAULT_PLACES = ("ext4", "tmpfs")


class Wanted(msgspec.Struct, frozen=True):
    """What the command line asked for; empty: the usual."""

    drivers: tuple[str, ...] = ()
    file_systems: tuple[str, ...] = ()
    quick: bool = False
    json: str = ""
    html: str = ""
    compare: str = ""
    rounds: int = 0
    seed: int = -1
    folder: str = ""


def main(wanted: Wanted) -> int:
    """Run the bench and print what came of it; 0, or 1 when nothing at all could be measured.

    An interrupt or a SIGTERM ends it at once, and what it has made is removed.

    Raises:
        InvalidArgument, PermissionDenied, Unavailable, OSError
    """
    drivers, kinds = _check(wanted)
    old = frame.read_report(Path(wanted.compare)) if wanted.compare else None
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        report = asyncio.run(_measure(wanted, drivers, kinds))
    finally:
        signal.signal(signal.SIGTERM, previous)
        tell("")
    return show(report, old, wanted)


def show(report: frame.Report, old: frame.Report | None, wanted: Wanted) -> int:
    """Print a report, beside an older one where there is one, and write the files asked for.

    Returns:
        The exit status: 1 when nothing at all could be measured.
    """
    sys.stdout.write(text.describe(report))
    if old is not None:
        sys.stdout.write("\n" + text.compare(old, report))
    if wanted.json:
        data = msgspec.json.format(msgspec.json.encode(report), indent=1)
        Path(wanted.json).write_bytes(data + b"\n")
    if wanted.html:
        Path(wanted.html).write_text(page.render(report), encoding="utf-8")
    return 0 if any(not result.error for result in report.results) else 1


def interrupt(number: int, _: object) -> None:
    """Handle a signal as an interrupt from the keyboard is."""
    raise KeyboardInterrupt(number)


def _check(wanted: Wanted) -> tuple[Sequence[str], Sequence[str]]:
    if os.geteuid() != 0:
        raise PermissionDenied("bench storage: it mounts file systems: be root")
    kinds = list(dict.fromkeys(wanted.file_systems)) or list(DEFAULT_PLACES)
    for kind in kinds:
        places.check(kind)
    return chosen("storage", wanted), kinds


def chosen(kind: str, wanted: Wanted) -> list[str]:
    """Return the drivers to measure; what is wrong with the command line is said here.

    Raises:
        InvalidArgument
    """
    installed = [info.name for info in manager.available(kind)]
    drivers = list(dict.fromkeys(wanted.drivers)) or installed
    for name in drivers:
        if name not in installed:
            listed = ", ".join(installed) or "none"
            raise InvalidArgument(f"bench: --driver {name}: not installed; there are {listed}")
    if wanted.rounds < 0:
        raise InvalidArgument(f"bench: --rounds {wanted.rounds}: not a number of rounds")
    for path in filter(None, (wanted.json, wanted.html)):
        # Said before minutes of measuring, not after.
        if not Path(path).absolute().parent.is_dir():
            raise InvalidArgument(f"bench: {path}: its folder is not there")
    return drivers


async def _measure(wanted: Wanted, drivers: Sequence[str], kinds: Sequence[str]) -> frame.Report:
    seed = wanted.seed if wanted.seed >= 0 else secrets.randbelow(1 << 31)
    shape = trees.QUICK if wanted.quick else trees.Shape()
    rounds = wanted.rounds or (QUICK_ROUNDS if wanted.quick else ROUNDS)
    run = frame.Run("storage", rounds, seed, tell)
    size = _QUICK_BYTES if wanted.quick else _PLACE_BYTES
    room = Path(tempfile.mkdtemp(prefix="boxwood-bench-", dir=wanted.folder or None))
    workers = WorkerPool()
    try:
        # What is unpacked stands in memory, so that no disk but the driver's is measured.
        with ExitStack() as stack:
            source = stack.enter_context(places.place("tmpfs", room, 1 << 30))
            layers = await asyncio.to_thread(trees.write_layers, source, shape, seed)
            grounds = room / "places"
            grounds.mkdir()
            for kind in kinds:
                with ExitStack() as mounted:
                    try:
                        ground = mounted.enter_context(places.place(kind, grounds, size))
                    except BoxwoodError as error:
                        run.leave_out(kind, str(error))
                        continue
                    await _measure_on(run, kind, ground, drivers, (shape, layers, workers))
    finally:
        await workers.close()
        shutil.rmtree(room)
    return run.report()


async def _measure_on(
    run: frame.Run,
    kind: str,
    ground: Path,
    drivers: Sequence[str],
    means: tuple[trees.Shape, dict[str, Path], WorkerPool],
) -> None:
    shape, layers, workers = means
    async with AsyncExitStack() as stack:
        cases: list[frame.Case] = []
        for name in drivers:
            subject = f"{name} on {kind}"
            root = ground / name
            root.mkdir()
            try:
                bed = await stack.enter_async_context(
                    storage.bed(name, root, shape, layers, workers.offload)
                )
            except (BoxwoodError, OSError) as error:
                run.leave_out(subject, str(error))
                continue
            cases += storage.cases(subject, bed)
        await run.measure(cases)


def tell(line: str) -> None:
    """Show a line of progress in place of the last one; on a terminal only."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{line[:width]}")
        sys.stderr.flush()
