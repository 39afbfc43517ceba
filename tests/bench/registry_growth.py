"""How a pull and a push grow with layers, files and bytes, what is left to the floor, and memory.

The floor of a pull is each layer unpacked by :mod:`tests.bench.floor` from a file, one after the
other: no network, no digest, no check. What the two digests cost by themselves stands beside it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from boxwood.bench import frame, places
from tests.bench import figures, floor, layers
from tests.bench.layers import OURS, shell, write_synthetic
from tests.bench.registry_tools import Client, fill
from tests.support.engine import Engine, running
from tests.support.paths import clear_room, make_room
from tests.support.registry import Registry, serving

FLOOR = "isal, a bare C extractor, layer after layer"
DIGESTS = "both digests, one thread"
MIB = 1 << 20
DEPTHS = (1, 5, 20, 50, 100)
"""Layers; each of 20 files and some 200 KiB."""
COUNTS = (10**3, 10**4, 10**5)
"""Files of one layer; empty ones."""
SIZES = (10, 100, 1024)
"""MiB of one layer, in files of 10 MiB at most."""
MEMORY_BYTES = (256 * MIB, 2048 * MIB)
"""Bytes that a pull fetches; twice as many are unpacked."""
MEMORY_BAR = 100 * MIB
FILE = 16 * MIB
PULL_SECONDS = 300


class Grown(NamedTuple):
    """One image: what it shows, its number of that, and the tars of its layers."""

    what: str
    number: int
    tars: list[Path]

    @property
    def name(self) -> str:
        """As the registry has it."""
        return f"{self.what.lower()}-{self.number}"


def grown(room: Path, *, quick: bool) -> Iterator[Grown]:
    """Write the images one after the other; each goes with the next."""

    def write(number: int, count: int, low: int, high: int) -> Path:
        path = room / f"{number}.tar"
        write_synthetic(path, count, low, high, random.Random(number))
        return path

    for depth in DEPTHS[: 3 if quick else None]:
        yield Grown("layers", depth, [write(at, 20, 5_000, 15_000) for at in range(depth)])
    for count in COUNTS[: 2 if quick else None]:
        yield Grown("files", count, [write(0, count, 0, 1)])
    for size in SIZES[: 2 if quick else None]:
        each = 10 * MIB
        yield Grown("MiB", size, [write(0, max(size // 10, 1), each - 1, each)])


def growth(room: Path, memory: Path, *, quick: bool) -> Generator[list[frame.Case], None, None]:
    """Yield the cases of one image after the other, each on a file system and an engine of its own.

    Args:
        room: a folder for the floor's library, which stays loaded.
        memory: a folder in memory; what is unpacked lies on an ext4 in a file there.
        quick: the small ones alone.
    """
    least = floor.Floor(floor.build(room))
    for image in grown(memory, quick=quick):
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(places.place("ext4", memory, 8 << 30))
            registry = stack.enter_context(serving(parent=place))
            archive = memory / "grown.tar"
            stack.callback(archive.unlink)
            layers.docker_archive(image.tars, archive)
            fill(registry, archive, f"{image.name}:1")
            server = stack.enter_context(running(Engine(place=place), busybox=False))
            yield _grown_cases(image, place, Client(OURS, server), registry, archive, least)
        for tar in image.tars:
            tar.unlink()


def _grown_cases(
    image: Grown, place: Path, ours: Client, registry: Registry, archive: Path, least: floor.Floor
) -> list[frame.Case]:
    packed = []
    for number, tar in enumerate(image.tars):
        packed.append(place / f"{number}.tar.gz")
        shell("pigz -6 -c {tar} > {packed}", tar=tar, packed=packed[-1])

    async def pull() -> float:
        return ours.pull(registry.address, f"{image.name}:1")

    async def push() -> float:
        with serving(parent=place) as empty:
            return ours.push(archive, empty.address)

    async def unpack() -> float:
        to = make_room("floor", parent=place)
        try:
            began = time.perf_counter()
            for number, layer in enumerate(packed):
                (to / str(number)).mkdir()
                least.unpack(layer, to / str(number))
            return time.perf_counter() - began
        finally:
            clear_room(to)

    async def digest() -> float:
        began = time.perf_counter()
        for path in (*packed, *image.tars):
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
        return time.perf_counter() - began

    def case(word: str, subject: str, measure: Callable[[], Awaitable[float]]) -> frame.Case:
        title = f"{word}: {image.number} {image.what}"
        return frame.Case(frame.Scenario(f"growth-{word}-{image.name}", title), subject, measure)

    return [
        case("pull", OURS, pull), case("pull", FLOOR, unpack), case("pull", DIGESTS, digest),
        case("push", OURS, push),
    ]  # fmt: skip


class Watch(threading.Thread):
    """Looks at the memory of processes until it is stopped; ``peak`` in bytes."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        super().__init__(daemon=True)
        self._pids, self._over = pids, threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, sum(figures.pss(pid) for pid in self._pids()) << 10)

    def stop(self) -> int:
        """End; returns the peak."""
        self._over.set()
        self.join()
        return self.peak


@contextlib.contextmanager
def memory_cases(room: Path, sizes: Sequence[int] = MEMORY_BYTES) -> Iterator[list[frame.Case]]:
    """Yield the cases of the memory that pulls take, each in an engine of its own.

    All lies on an ext4 in a sparse file below ``room``, which should be on a disk: the archive of
    the image, the registry's blobs, what is fetched and what is unpacked, at once.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(places.place("ext4", room, 12 * max(sizes)))
        registry = stack.enter_context(serving(parent=place))
        found = []
        for size in sizes:
            _fill_random(place, registry, size)
            pull = functools.cache(functools.partial(_peaks, place, registry, size))

            async def measure(what: int, pull: Callable[[], tuple[int, int]] = pull) -> float:
                return float(pull()[what])

            for what, (word, title) in enumerate(
                (("daemon", "the daemon"), ("all", "the daemon and its workers"))
            ):
                scenario = frame.Scenario(
                    f"memory-{word}-{size // MIB}",
                    f"peak memory of {title}: pull of {size // MIB} MiB", "bytes",
                )  # fmt: skip
                found.append(frame.Case(scenario, OURS, functools.partial(measure, what), 1))
        yield found


def _fill_random(place: Path, registry: Registry, size: int) -> None:
    """Put an image of two layers into the registry that takes ``size`` bytes there."""
    tars = [place / f"half-{number}.tar" for number in range(2)]
    for tar in tars:  # half of what it writes compresses away
        write_synthetic(tar, size // FILE, FILE - 1, FILE, random.Random(tar.name))
    archive = place / "image.tar"
    layers.docker_archive(tars, archive)
    for tar in tars:
        tar.unlink()
    fill(registry, archive, f"big-{size}:1", "--dest-compress-level=1")
    archive.unlink()


def _peaks(place: Path, registry: Registry, size: int) -> tuple[int, int]:
    """Pull once; returns the peak of the daemon, and of it and its workers, in bytes."""
    with running(Engine(place=place), busybox=False) as server:
        watches = [
            Watch(lambda: [server.pid]), Watch(lambda: list(figures.family(server.pid)))
        ]  # fmt: skip
        for watch in watches:
            watch.start()
        try:
            name = f"{registry.address}/big-{size}:1"
            server.docker("pull", "-q", name, timeout=PULL_SECONDS)
        finally:
            peaks = [watch.stop() for watch in watches]
        data_root = server.data_root
    shutil.rmtree(data_root)
    return peaks[0], peaks[1]
