"""Laws of crashes and of failing system calls, at each call that changes something."""

from __future__ import annotations

import asyncio
import errno
import importlib
import itertools
import os
import random
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from boxwood.drivers.storage import ApplyRequest, Kind, SnapshotInfo, StorageDriver
from boxwood.errors import BoxwoodError, NotFound
from boxwood.testing import faults
from boxwood.testing.storage_kit import StorageKit, run, shown
from boxwood.testing.storage_layers import archive
from boxwood.testing.trees import look

_LAYER = archive((".wh.gone", b""), ("dir", None), ("dir/new", b"n" * 5000), ("shared", b"two"))
_ONE = ["gone", "one", "shared"]


async def _prepare(driver: StorageDriver, layer: int) -> None:
    del layer
    await driver.prepare("c", "one", labels={"a": "b"})


async def _view(driver: StorageDriver, layer: int) -> None:
    del layer
    await driver.view("c", "one")


async def _commit(driver: StorageDriver, layer: int) -> None:
    del layer
    await driver.commit("ready", "two")


async def _install(driver: StorageDriver, layer: int) -> None:
    await driver.prepare("c", "one")
    await driver.apply("c", layer, ApplyRequest())
    await driver.commit("c", "two")


async def _remove(driver: StorageDriver, layer: int) -> None:
    del layer
    driver.remove("ready")
    await driver.cleanup()


class Operation(NamedTuple):
    """What is broken off, and which trees may be seen then: names in them, by key."""

    work: Callable[[StorageDriver, int], Awaitable[None]]
    """Is given the driver and a layer's tar to read."""
    seen: dict[str, list[str]]


OPERATIONS = {
    "prepare": Operation(_prepare, {"c": _ONE}),
    "view": Operation(_view, {"c": _ONE}),
    "commit": Operation(_commit, {"ready": [*_ONE, "written"], "two": [*_ONE, "written"]}),
    # The active one is half made: what it holds is nobody's business.
    "apply": Operation(_install, {"c": [], "two": ["dir", "dir/new", "one", "shared"]}),
    "remove": Operation(_remove, {"ready": [*_ONE, "written"]}),
}


_FEW = 16
"""Descriptors with which the hungriest operation of a driver in the tree succeeds."""


@contextmanager
def _descriptors(spare: int, driver: StorageDriver) -> Iterator[None]:
    """Leave so many descriptors free; AssertionError if one more is open in the end."""
    before = {int(name) for name in os.listdir("/proc/self/fd")}
    free = (number for number in itertools.count() if number not in before)
    limit = next(itertools.islice(free, spare, None))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    driver.close()
    kept = {int(name) for name in os.listdir("/proc/self/fd")} - before
    assert not kept, f"descriptors are kept: {sorted(kept)}"


class CrashLaws(StorageKit):
    """After a crash or an error what is seen is whole, and the rest goes."""

    crash_options: ClassVar[tuple[str, ...]] = tuple(OPERATIONS)

    @pytest.fixture
    def ground(self, root: Path, driver: StorageDriver) -> int:
        """A driver's root with one layer; how many files that is."""
        if not faults.supported():
            pytest.skip("faults need root, on x86_64 or aarch64")
        # A module that is read meanwhile would make calls of its own.
        importlib.import_module("boxwood.execution.worker_jobs")
        with self.change(driver, "one", None) as tree:
            for name in _ONE:
                (tree / name).write_text(name)
        # Looking at it, as the laws do, leaves something to clean up.
        run(driver.cleanup())
        return self._count(root)

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_a_crash_at_any_call(self, root: Path, ground: int, thorough: bool, name: str) -> None:
        """Killed before any system call that changes something: whole or not there at all."""
        operation = OPERATIONS[name]
        for at in self._places(root, ground, operation, thorough):
            before = self._begin(root, operation)
            outcome = faults.attempt(lambda: self._work(root, operation), at=at)
            place = f"killed before {name}'s call {at} ({outcome.calls[-1]})"
            assert outcome.hit, place
            self._recover(root, ground, operation, place, before)

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_an_error_at_any_call(self, root: Path, ground: int, thorough: bool, name: str) -> None:
        """A system call that fails is an error of the contract's, and nothing is left of it."""
        operation = OPERATIONS[name]
        numbers = (errno.EIO, errno.ENOSPC)
        for number in numbers if thorough else (random.choice(numbers),):
            for at in self._places(root, ground, operation, thorough):
                before = self._begin(root, operation)
                outcome = faults.attempt(lambda: self._work(root, operation), at=at, error=number)
                failed = outcome.calls[at] if at < len(outcome.calls) else "none"
                place = f"{errno.errorcode[number]} at {name}'s call {at} ({failed})"
                assert outcome.status == 0, f"{place}: died: {outcome.status}"
                assert outcome.words.startswith(("ok", "refused")), f"{place}: {outcome.words}"
                self._recover(root, ground, operation, place, before)

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_descriptors_run_out(self, root: Path, ground: int, thorough: bool, name: str) -> None:
        """With so few left it is an error of the contract's or done; none is kept either way."""
        operation = OPERATIONS[name]
        few = range(_FEW)
        for spare in few if thorough else sorted(random.sample(few, 3)):
            before = self._begin(root, operation)
            outcome = faults.attempt(lambda: self._work(root, operation, spare))  # noqa: B023
            place = f"{spare} descriptors for {name}"
            assert outcome.status == 0, f"{place}: died: {outcome.status}"
            assert outcome.words.startswith(("ok", "refused")), f"{place}: {outcome.words}"
            self._recover(root, ground, operation, place, before)

    # Inside

    def _places(self, root: Path, ground: int, operation: Operation, thorough: bool) -> list[int]:
        """Choose the calls, after a run without a fault."""
        before = self._begin(root, operation)
        outcome = faults.attempt(lambda: self._work(root, operation))
        assert outcome.words == "ok", f"without a fault: {outcome.words}"
        self._recover(root, ground, operation, "without a fault", before)
        places = list(range(len(outcome.calls)))
        if thorough:
            return places
        chosen = random.sample(places, max(len(places) // 10, min(len(places), 4)))
        # What is done last publishes what was made: always tried.
        return sorted({*chosen, places[-1]})

    def _work(self, root: Path, operation: Operation, spare: int = -1) -> str:
        """Do it, in the child; what is refused must not be seen."""
        try:
            driver = self.make(root)
        except BoxwoodError as error:
            return f"refused at start: {type(error).__name__}"
        before = {info.key for info in driver.walk()}
        try:
            asyncio.run(self._awaited(operation, driver, spare))
        except BoxwoodError as error:
            fresh = {key for key in self._keys(driver) if key not in before and key != "c"}
            if operation.work in (_prepare, _view):
                try:
                    driver.stat("c")
                except NotFound:
                    return f"refused: {type(error).__name__}"
                return f"there after an error: {error}"
            return f"there after an error: {fresh}" if fresh else f"refused: {type(error).__name__}"
        return "ok"

    async def _awaited(self, operation: Operation, driver: StorageDriver, spare: int = -1) -> None:
        mine, its = socket.socketpair()
        with closing(mine), closing(its):
            # Not by a call that is counted: it is the kit's.
            its.sendall(_LAYER)
            its.shutdown(socket.SHUT_WR)
            with _descriptors(spare, driver) if spare >= 0 else nullcontext():
                await operation.work(driver, mine.fileno())

    def _begin(self, root: Path, operation: Operation) -> int:
        """Bring about what the operation starts from; returns how many files are there."""
        if "ready" in operation.seen:
            driver = self.make(root)
            run(driver.prepare("ready", "one"))
            with shown(driver, "ready") as tree:
                (tree / "written").write_text("written")
        return self._count(root)

    def _recover(
        self, root: Path, ground: int, operation: Operation, place: str, before: int
    ) -> None:
        """Start again, look at all that is seen, clean up, and do the operation once more."""
        driver = self.make(root)
        infos = self._keys(driver)
        for info in tuple(driver.walk()):
            if info.key not in infos:
                driver.remove(info.key)
        assert "one" in infos, f"{place}: the parent is gone"
        assert infos.keys() <= {"one", *operation.seen}, f"{place}: {sorted(infos)}"
        if operation.work is _commit:
            assert len(infos) == 2, f"{place}: neither or both: {sorted(infos)}"
        for key, info in infos.items():
            self._whole(driver, key, operation, place)
            if key == "c" and operation.work is _prepare:
                assert info.labels == {"a": "b"}, f"{place}: labels are lost"
        run(driver.cleanup())
        for key in ("ready", "c", "two"):
            if key in infos:
                self._whole(driver, key, operation, f"{place}, after a cleanup")
                driver.remove(key)
        self._whole(driver, "one", operation, f"{place}, after a cleanup")
        run(driver.cleanup())
        left = self._count(root) - ground
        assert left <= 0, f"{place}: {left} of {before} files stay behind"
        self._again(root, operation, place)

    def _keys(self, driver: StorageDriver) -> dict[str, SnapshotInfo]:
        """Return what is there, but for views by which a committed snapshot was looked at.

        Those the engine removes, as it does with all that it has no record of.
        """
        passing = ("look-", "kit-look-")
        return {info.key: info for info in driver.walk() if not info.key.startswith(passing)}

    def _again(self, root: Path, operation: Operation, place: str) -> None:
        """What was broken off can be done."""
        self._begin(root, operation)
        driver = self.make(root)
        asyncio.run(self._awaited(operation, driver))
        for info in tuple(driver.walk()):
            if info.key != "one":
                self._whole(driver, info.key, operation, f"{place}, done again")
                driver.remove(info.key)
        run(driver.cleanup())

    def _whole(self, driver: StorageDriver, key: str, operation: Operation, place: str) -> None:
        wanted = _ONE if key == "one" else operation.seen[key]
        if key == "c" and operation.work is _install:
            assert driver.stat(key).kind is Kind.ACTIVE
            return
        with shown(driver, key) as tree:
            found = look(tree)
        assert sorted(found) == wanted, f"{place}: {key} is not whole: {sorted(found)}"
        for name in ("one", "gone"):
            assert found.get(name, {}).get("content", name.encode()) == name.encode(), place

    def _count(self, root: Path) -> int:
        return sum(len(names) + len(files) for _, names, files in os.walk(root))
