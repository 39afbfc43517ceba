"""The storage bench: what containers and images ask of a storage driver, timed.

Every driver that is installed can be named, a stranger's too. It works below a root of its own on
a fresh file system, with the engine's own mounter and workers, as in the daemon.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from boxwood.bench.frame import Case, Scenario
from boxwood.bench.trees import BIG_NAME, Shape, small_names
from boxwood.drivers import manager
from boxwood.drivers.storage import ApplyRequest, Offload, StorageDriver
from boxwood.execution.mounting import open_root

BASE = "base"
_SMALL = b"a line of a small file\n" * 20


class Bed:
    """One driver in one place, with the layer that all scenarios start from."""

    def __init__(
        self, driver: StorageDriver, root: Path, shape: Shape, layers: Mapping[str, Path]
    ) -> None:
        self.driver, self.root, self.shape, self.layers = driver, root, shape, layers
        self._count = 0
        self._stacks: dict[int, str] = {}

    def key(self) -> str:
        """Return a key that no snapshot has."""
        self._count += 1
        return f"bench-{self._count}"

    async def start(self) -> None:
        """Make the committed snapshot :data:`BASE`."""
        await self.driver.prepare("unpack", None)
        await self.apply("unpack", "plain")
        await self.driver.commit("unpack", BASE)
        await self.driver.sync()

    async def apply(self, key: str, form: str) -> None:
        """Unpack the layer into ``key``."""
        fd = os.open(self.layers[form], os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self.driver.apply(key, fd, ApplyRequest())
        finally:
            os.close(fd)

    @asynccontextmanager
    async def snapshot(self, parent: str | None = BASE) -> AsyncIterator[str]:
        """``async with bed.snapshot() as key``: an active one, gone with its bytes afterwards."""
        key = self.key()
        await self.driver.prepare(key, parent)
        try:
            yield key
        finally:
            await self.drop(key)

    @asynccontextmanager
    async def mounted(self, parent: str = BASE) -> AsyncIterator[tuple[str, str]]:
        """``async with bed.mounted() as (key, path)``: an active one, and where to see it."""
        async with self.snapshot(parent) as key:
            fd = await self.driver.open_root(key)
            try:
                yield key, f"/proc/self/fd/{fd}"
            finally:
                os.close(fd)

    async def drop(self, key: str) -> None:
        """Remove ``key`` and its bytes."""
        self.driver.remove(key)
        await self.driver.cleanup()

    async def stack(self, depth: int) -> str:
        """Return the top of a stack of ``depth`` layers on the base, made when first asked for."""
        if depth not in self._stacks:
            below = max((built for built in self._stacks if built < depth), default=1)
            parent = self._stacks.get(below, BASE)
            for number in range(below, depth):
                key, name = self.key(), f"deep-{depth}-{number}"
                await self.driver.prepare(key, parent)
                fd = await self.driver.open_root(key)
                try:
                    _write(f"/proc/self/fd/{fd}/layer-{number}", _SMALL)
                finally:
                    os.close(fd)
                await self.driver.commit(key, name)
                parent = name
            self._stacks[depth] = parent
        return self._stacks[depth]


@asynccontextmanager
async def bed(
    name: str, root: Path, shape: Shape, layers: Mapping[str, Path], offload: Offload
) -> AsyncIterator[Bed]:
    """Load the driver ``name``, let it work below ``root``, and take all away afterwards.

    Raises:
        NotFound, PluginError, Unavailable: it is not installed, or cannot work here.
    """
    driver: StorageDriver = manager.select("storage", name, root=root, options={})
    driver.offload = offload
    driver.mounter = open_root
    made = Bed(driver, root, shape, layers)
    try:
        await made.start()
        yield made
    finally:
        await _clear(driver)


async def _clear(driver: StorageDriver) -> None:
    """Remove all snapshots, children first."""
    infos = {info.key: info for info in driver.walk()}
    while infos:
        parents = {info.parent for info in infos.values()}
        for key in [key for key in infos if key not in parents]:
            driver.remove(key)
            del infos[key]
    await driver.cleanup()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _read_all(path: str) -> None:
    buffer = bytearray(1 << 20)
    for folder, _, names in os.walk(path):
        for name in names:
            with open(f"{folder}/{name}", "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def _forget_caches() -> None:
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")


async def _prepare(bed: Bed) -> float:
    key = bed.key()
    began = time.perf_counter()
    await bed.driver.prepare(key, BASE)
    took = time.perf_counter() - began
    await bed.drop(key)
    return took


async def _mount(bed: Bed) -> float:
    async with bed.snapshot() as key:
        began = time.perf_counter()
        fd = await bed.driver.open_root(key)
        took = time.perf_counter() - began
        os.close(fd)
        return took


async def _first_write(bed: Bed) -> float:
    async with bed.mounted() as (_, path):
        began = time.perf_counter()
        fd = os.open(f"{path}/{BIG_NAME}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"x")
        finally:
            os.close(fd)
        return time.perf_counter() - began


async def _small_files(bed: Bed) -> float:
    async with bed.mounted() as (_, path):
        os.mkdir(f"{path}/new")
        began = time.perf_counter()
        for number in range(bed.shape.files):
            _write(f"{path}/new/{number}", _SMALL)
        return time.perf_counter() - began


async def _read(bed: Bed, *, cold: bool) -> float:
    async with bed.mounted() as (_, path):
        if cold:
            _forget_caches()
        else:
            _read_all(path)
        began = time.perf_counter()
        _read_all(path)
        return time.perf_counter() - began


def _change(bed: Bed, path: str) -> None:
    """One small file in ten is written anew, one in twenty removed, some are added."""
    names = small_names(bed.shape)
    for name in names[::10]:
        _write(f"{path}/{name}", _SMALL)
    for name in names[5::20]:
        os.unlink(f"{path}/{name}")
    os.mkdir(f"{path}/added")
    for number in range(len(names) // 10):
        _write(f"{path}/added/{number}", _SMALL)


async def _diff(bed: Bed) -> float:
    async with bed.mounted() as (key, path):
        _change(bed, path)
        sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            began = time.perf_counter()
            await bed.driver.diff(key, sink)
            return time.perf_counter() - began
        finally:
            os.close(sink)


async def _commit(bed: Bed) -> float:
    key, name = bed.key(), bed.key()
    await bed.driver.prepare(key, BASE)
    fd = await bed.driver.open_root(key)
    try:
        _change(bed, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    began = time.perf_counter()
    await bed.driver.commit(key, name)
    took = time.perf_counter() - began
    await bed.drop(name)
    return took


async def _apply(bed: Bed, form: str) -> float:
    async with bed.snapshot(None) as key:
        began = time.perf_counter()
        await bed.apply(key, form)
        return time.perf_counter() - began


async def _remove(bed: Bed) -> float:
    key = bed.key()
    await bed.driver.prepare(key, None)
    await bed.apply(key, "plain")
    began = time.perf_counter()
    await bed.drop(key)
    return time.perf_counter() - began


async def _deep(bed: Bed, depth: int) -> float:
    top = await bed.stack(depth)
    key = bed.key()
    began = time.perf_counter()
    await bed.driver.prepare(key, top)
    try:
        fd = await bed.driver.open_root(key)
        try:
            for name in os.listdir(f"/proc/self/fd/{fd}"):
                os.stat(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
        return time.perf_counter() - began
    finally:
        await bed.drop(key)


async def _at_once(bed: Bed) -> float:
    async def one() -> None:
        async with bed.mounted() as (_, path):
            _write(f"{path}/mine", _SMALL)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(bed.shape.at_once)))
    return time.perf_counter() - began


def _used(root: Path) -> int:
    os.sync()
    found = os.statvfs(root)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


async def _space(bed: Bed) -> float:
    before = _used(bed.root)
    async with bed.mounted() as (_, path):
        _change(bed, path)
        return float(max(_used(bed.root) - before, 0))


def cases(subject: str, bed: Bed) -> list[Case]:
    """Return all that is measured of one driver in one place."""
    shape = bed.shape
    megabytes = shape.big >> 20
    table: list[tuple[str, str, Callable[[Bed], Awaitable[float]]]] = [
        ("prepare", "prepare a snapshot", _prepare),
        ("mount", "mount it", _mount),
        ("first-write", f"first write to a file of {megabytes} MiB below", _first_write),
        ("small-files", f"write {shape.files} small files", _small_files),
        ("read-cold", "read the whole tree, nothing cached", functools.partial(_read, cold=True)),
        ("read-warm", "read the whole tree, cached", functools.partial(_read, cold=False)),
        ("diff", "changes of a container as a tar", _diff),
        ("commit", "commit them", _commit),
        *(
            (f"apply-{form}", f"unpack a layer, {form}", functools.partial(_apply, form=form))
            for form in bed.layers
        ),
        ("remove", "remove a layer and its bytes", _remove),
        ("at-once", f"{shape.at_once} snapshots at once: make, write, remove", _at_once),
    ]
    found = [
        Case(Scenario(name, title), subject, functools.partial(measure, bed))
        for name, title, measure in table
    ]
    for depth in shape.depths:
        scenario = Scenario(f"deep-{depth}", f"snapshot and mount on {depth} layers")
        measure = functools.partial(_deep, bed, depth)
        found.append(Case(scenario, subject, measure, shape.passes))
    scenario = Scenario("space", "room of a container's changes", "bytes")
    found.append(Case(scenario, subject, functools.partial(_space, bed), shape.passes))
    return found
