"""What the laws of the storage kit stand on: the engine's jobs and mounts, and a driver to try.

A driver is given what the engine gives it: jobs in child processes, and mounts on descriptors. The
kit reaches both when it runs, by name; its own code knows the contract alone, as a driver's does.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import signal
import socket
import warnings
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest

from boxwood import errors
from boxwood.drivers import manager
from boxwood.drivers.storage import (
    Applied,
    ApplyRequest,
    Diffed,
    Mount,
    SnapshotOptions,
    StorageDriver,
    as_boxwood_error,
)
from boxwood.errors import Internal
from boxwood.testing.remains import Remains
from boxwood_ext import mount

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


def engine_mounter(mounts: Sequence[Mount], *, volatile: bool = False) -> int:
    """Mount what a driver said, detached, as the engine does; the caller closes the descriptor."""
    opened = importlib.import_module("boxwood.execution.mounting").open_root(
        mounts, volatile=volatile
    )
    return int(opened)


async def plain_offload(
    job: str, arguments: Mapping[str, Any], fds: Sequence[int]
) -> dict[str, Any]:
    """Do a job of the engine's workers in a child process, which is not confined.

    Raises what the engine's worker raises for it.
    """
    try:
        mine, its = socket.socketpair()
        with closing(mine), closing(its):
            pid = _start(job, arguments, fds, its)
            its.close()
            try:
                await _ended(pid)
            finally:
                os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended, or is just being killed
            with mine.makefile("rb") as file:
                said = file.read()
    except OSError as error:
        raise as_boxwood_error("worker", job, error) from error
    if not said:
        raise Internal(f"worker: {job}: ended without an answer")
    answer = msgspec.msgpack.decode(said)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    found: dict[str, Any] = answer["found"]
    return found


def _start(
    job: str, arguments: Mapping[str, Any], fds: Sequence[int], answer: socket.socket
) -> int:
    jobs = importlib.import_module("boxwood.execution.worker_jobs")
    with warnings.catch_warnings():
        # Threads of pytest's plugins do not hold what a job needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        parent = os.getpid()
        pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                os.umask(0)
                answer.sendall(msgspec.msgpack.encode(_answer(jobs, job, arguments, fds)))
        finally:
            os._exit(0)
    return pid


def _answer(
    jobs: Any, job: str, arguments: Mapping[str, Any], fds: Sequence[int]
) -> dict[str, Any]:
    try:
        return {"found": jobs.JOBS[job].run(dict(arguments), list(fds))}
    except errors.BoxwoodError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001 - it is told, as a worker tells it
        known = jobs.translate(error)
        return {"error": type(known).__name__, "message": str(known)}


async def _ended(pid: int) -> None:
    """Wait for a child; a caller that is cancelled has it killed."""
    watched = os.pidfd_open(pid)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(watched, over.set)
    try:
        await over.wait()
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        loop.remove_reader(watched)
        os.close(watched)


@contextmanager
def mounted(mounts: Sequence[Mount], place: Path) -> Iterator[Path]:
    """Mount what a driver said at ``place`` and unmount it in the end."""
    place.mkdir(exist_ok=True)
    fd = engine_mounter(mounts)
    try:
        mount.move_mount(fd, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(fd)
    try:
        yield place
    finally:
        mount.umount2(place)


@contextmanager
def shown(driver: StorageDriver, key: str) -> Iterator[Path]:
    """Give the tree of a snapshot, of any kind; what is written to an active one stays."""

    async def opened(stack: ExitStack) -> int:
        if driver.stat(key).kind == "committed":
            looking = f"kit-look-{os.urandom(6).hex()}"
            await driver.view(looking, key)
            stack.callback(driver.remove, looking)
            return await driver.open_root(looking)
        return await driver.open_root(key)

    with ExitStack() as stack:
        fd = run(opened(stack))
        stack.callback(os.close, fd)
        # Through the descriptor: nothing is attached anywhere.
        yield Path(f"/proc/self/fd/{fd}")


def layer_of(driver: StorageDriver, key: str) -> bytes:
    """Return the tar of what ``key`` changes."""
    with memory_file() as sink:
        told = run(driver.diff(key, sink))
        data = read_all(sink)
    assert isinstance(told, Diffed)
    assert told.size == len(data), "diff tells another size than it wrote"
    return data


def listing_of(driver: StorageDriver, key: str) -> list[tuple[str, str]]:
    """Return what ``key`` changes, as pairs of a letter (A, C, D) and a path."""
    with memory_file() as sink:
        run(driver.diff(key, sink, listing=True))
        data = read_all(sink)
    records = data.decode(errors="surrogateescape").split("\0")[:-1]
    return [(record[0], record[1:]) for record in records]


def apply_layer(
    driver: StorageDriver, key: str, layer: bytes, request: ApplyRequest | None = None
) -> Applied:
    """Unpack a layer from a stream into the active ``key``."""
    with memory_file() as stream:
        os.write(stream, layer)
        os.lseek(stream, 0, os.SEEK_SET)
        return run(driver.apply(key, stream, request or ApplyRequest()))


@contextmanager
def memory_file() -> Iterator[int]:
    """A file in memory, as a descriptor."""
    fd = os.memfd_create("boxwood-kit")
    try:
        yield fd
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """Return all of a file, from its beginning."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


class StorageKit:
    """The fixtures and helpers of the laws. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def root(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        """The driver's root; override it to use a file system of yours."""
        asked = request.config.getoption("--boxwood-storage-root", default="")
        return Path(asked) / tmp_path.name / "root" if asked else tmp_path / "root"

    @pytest.fixture
    def thorough(self, request: pytest.FixtureRequest) -> bool:
        """Is everything to be tried, not a tenth of it?"""
        asked = request.config.getoption("--boxwood-thorough", default=False)
        return bool(asked or request.config.getoption("--soak", default=False))

    def make(self, root: Path) -> StorageDriver:
        """Make the driver, as the engine would after a start."""
        driver = manager.select(
            "storage", self.driver_name, root=root, options=dict(self.driver_options)
        )
        assert isinstance(driver, StorageDriver)
        driver.offload = plain_offload
        driver.mounter = engine_mounter
        return driver

    @pytest.fixture
    def driver(self, root: Path) -> Iterator[StorageDriver]:
        """A fresh driver; what it leaves open, mounted or running after a test is an error."""
        driver = self.make(root)
        remains = Remains(root)
        yield driver
        driver.close()
        left = remains.wait()
        assert not left, f"left behind by the driver: {left}"

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Where the kit mounts."""
        return tmp_path / "mnt"

    def layer(self, driver: StorageDriver, name: str, parent: str | None) -> None:
        """Commit a snapshot ``name`` that holds a file of that name and a shared one."""
        run(driver.prepare(f"{name}-new", parent))
        with shown(driver, f"{name}-new") as tree:
            (tree / name).write_text(name)
            (tree / "shared").write_text(name)
        run(driver.commit(f"{name}-new", name))

    @contextmanager
    def change(
        self, driver: StorageDriver, name: str, parent: str | None, **options: Any
    ) -> Iterator[Path]:
        """Give the tree of a new snapshot on ``parent``, and commit it as ``name``."""
        key = f"{name}-new"
        run(driver.prepare(key, parent, options=SnapshotOptions(**options)))
        with shown(driver, key) as tree:
            yield tree
        run(driver.commit(key, name))
