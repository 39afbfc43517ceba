"""The conformance kit of isolation drivers: what :mod:`boxwood.drivers.isolation` promises.

Run it against any installed driver, as root::

    pytest --boxwood-isolation=NAME --pyargs boxwood.testing.isolation

or make a class of your own from :class:`IsolationSuite`. The root file system of the kit's
containers is the machine's own, read-only; their launch programs are run without a shim.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import selectors
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from boxwood.drivers import manager
from boxwood.drivers.isolation import Bundle, Document, IsolationDriver, Launch, TaskHandle
from boxwood.errors import InvalidArgument, NotFound, Unsupported
from boxwood.testing.plugin import chosen
from boxwood_ext import mount
from boxwood_ext.launch import run_program

T = TypeVar("T")

DEADLINE = 15.0
"""Seconds for anything that a driver is waited for: far more than its own bounds."""
SLEEP = "echo up; while :; do sleep 1; done"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end, in time."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE))


def host_root() -> int:
    """Return a detached, read-only copy of the mount at ``/``."""
    fd = mount.open_tree(mount.AT_FDCWD, "/", mount.OPEN_TREE_CLONE)
    mount.mount_setattr(fd, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
    return fd


def process(*args: str) -> Document:
    """Return an OCI process without any privilege."""
    none: list[str] = []
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    return {
        "args": list(args),
        "cwd": "/",
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "user": {"uid": 0, "gid": 0},
        "terminal": False,
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(kinds, none),
    }


def document(*args: str) -> Document:
    """Return the smallest OCI document of a container with namespaces of its own."""
    namespaces = ("pid", "network", "ipc", "uts", "mount")
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    ]
    return {
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs", "readonly": True},
        "process": process(*args),
        "hostname": "kit",
        "mounts": mounts,
        "linux": {"namespaces": [{"type": name} for name in namespaces], "resources": {}},
    }


class Started:
    """A process that a launch began, and its output."""

    def __init__(self, launch: Launch) -> None:
        """Run the launch; it is closed."""
        if launch.argv:
            launch.close()
            pytest.skip("the kit cannot run an external runtime yet")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._out, end = os.pipe2(os.O_CLOEXEC)
        try:
            with launch:
                self.pid, self.pidfd, _ = run_program(launch.program, launch.fds, (null, end, end))
        except BaseException:
            os.close(self._out)
            raise
        finally:
            os.close(end)
            os.close(null)

    def line(self) -> str:
        """Return the next line of its output, empty at the end."""
        found = b""
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                assert ready.select(DEADLINE), "the process says nothing"
                byte = os.read(self._out, 1)
                if not byte:
                    break
                found += byte
        return found.decode()

    def wait(self) -> int:
        """Wait for its end; its code, 128 + N for a signal."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.pidfd, selectors.EVENT_READ)
            assert ready.select(DEADLINE), "the process does not end"
        status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert status is not None
        return status.si_status + 128 * (status.si_code != os.CLD_EXITED)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._out)
        os.close(self.pidfd)


class IsolationSuite:
    """What every isolation driver does. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    driver_options: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The driver's root."""
        path = tmp_path / "isolation"
        path.mkdir(mode=0o700)
        return path

    def make(self, root: Path) -> IsolationDriver:
        """Make the driver, as the engine would after a start."""
        driver = manager.select(
            "isolation", self.driver_name, root=root, options=dict(self.driver_options)
        )
        assert isinstance(driver, IsolationDriver)
        return driver

    @pytest.fixture
    def driver(self, root: Path) -> IsolationDriver:
        """A fresh driver."""
        return self.make(root)

    @pytest.fixture
    def bundle(self, driver: IsolationDriver, tmp_path: Path) -> Iterator[Bundle]:
        """A container that sleeps; whatever a test leaves of it is removed."""
        key = secrets.token_hex(32)
        spec = document("/bin/sh", "-c", SLEEP)
        root_fd = host_root()
        yield Bundle(id=key, directory=tmp_path, spec=spec, root_fd=root_fd)
        os.close(root_fd)
        run(driver.delete(TaskHandle(id=key)))
        assert key not in driver.walk()

    @pytest.fixture
    def task(self, driver: IsolationDriver, bundle: Bundle) -> Iterator[TaskHandle]:
        """The same, running."""
        first = Started(driver.prepare(bundle))
        assert first.line() == "up\n"
        handle = TaskHandle(id=bundle.id, pid=first.pid, spec=bundle.spec)
        yield handle
        run(driver.delete(handle))
        assert first.wait() != 0
        first.close()

    def test_the_machine_is_always_the_same(self, driver: IsolationDriver) -> None:
        """And so is what is told of it."""
        assert driver.machine() is driver.machine()
        assert driver.machine().cpus
        assert driver.describe() == driver.describe()

    def test_prepare_is_idempotent(self, driver: IsolationDriver, bundle: Bundle) -> None:
        """Twice is once; and what nobody launched is removed without a trace."""
        driver.prepare(bundle).close()
        driver.prepare(bundle).close()
        assert driver.walk().count(bundle.id) == 1
        handle = TaskHandle(id=bundle.id, spec=bundle.spec)
        assert driver.processes(handle) == []
        run(driver.delete(handle))
        assert bundle.id not in driver.walk()
        run(driver.delete(handle))

    def test_what_cannot_be_prepared_leaves_nothing(
        self, driver: IsolationDriver, bundle: Bundle
    ) -> None:
        """A document that makes no sense is refused, and nothing of it is there."""
        bundle.spec["process"]["rlimits"] = [{"type": "RLIMIT_NO_SUCH", "soft": 1, "hard": 1}]
        with pytest.raises((InvalidArgument, Unsupported)):
            driver.prepare(bundle)
        assert bundle.id not in driver.walk()

    def test_it_is_a_container(self, driver: IsolationDriver, bundle: Bundle) -> None:
        """Process 1 in namespaces of its own, with the name, the exit code and no privilege."""
        script = (
            "echo $$ $(hostname); readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/mnt; "
            "grep -c CapEff:.0000000000000000 /proc/self/status; exit 42"
        )
        bundle.spec["process"]["args"] = ["/bin/sh", "-c", script]
        first = Started(driver.prepare(bundle))
        assert first.line() == "1 kit\n"
        for name in ("pid", "net", "mnt"):
            assert first.line().strip() != os.readlink(f"/proc/self/ns/{name}")
        assert first.line() == "1\n"
        assert first.wait() == 42
        first.close()

    def test_exec_joins_it(self, driver: IsolationDriver, task: TaskHandle) -> None:
        """A further process sees the container's processes and is listed with them."""
        more = Started(driver.exec(task, process("/bin/sh", "-c", f"hostname; {SLEEP}")))
        assert more.line() == "kit\n"
        assert more.line() == "up\n"
        assert os.readlink(f"/proc/{more.pid}/ns/net") == os.readlink(f"/proc/{task.pid}/ns/net")
        found = driver.processes(task)
        assert {task.pid, more.pid} <= set(found)
        assert found == sorted(found)
        run(driver.delete(task))
        assert more.wait() == 137
        more.close()

    def test_nothing_is_executed_in_what_has_ended(
        self, driver: IsolationDriver, bundle: Bundle
    ) -> None:
        """NotFound."""
        bundle.spec["process"]["args"] = ["/bin/true"]
        first = Started(driver.prepare(bundle))
        assert first.wait() == 0
        first.close()
        handle = TaskHandle(id=bundle.id, pid=first.pid, spec=bundle.spec)
        with pytest.raises(NotFound):
            driver.exec(handle, process("/bin/true")).close()

    def test_delete_kills_and_is_idempotent(
        self, driver: IsolationDriver, task: TaskHandle
    ) -> None:
        """All processes, whatever they were doing; nothing is left to walk over."""
        run(driver.delete(task))
        assert driver.processes(task) == []
        assert task.id not in driver.walk()
        assert driver.adopt(task) is False
        run(driver.delete(task))

    def test_a_new_daemon_takes_it_up(
        self, driver: IsolationDriver, task: TaskHandle, root: Path
    ) -> None:
        """Another driver finds it, knows its processes, executes in it and removes it."""
        after = self.make(root)
        assert task.id in after.walk()
        assert after.adopt(task) is True
        assert after.adopt(task) is True
        assert task.pid in after.processes(task)
        more = Started(after.exec(task, process("/bin/sh", "-c", "exit 3")))
        assert more.wait() == 3
        more.close()
        run(after.delete(task))
        assert task.id not in driver.walk()

    def test_pause_stops_it_and_delete_still_works(
        self, driver: IsolationDriver, task: TaskHandle
    ) -> None:
        """Where there is a pause: paused twice, resumed twice, and deleted while it is paused."""
        try:
            run(driver.pause(task))
        except Unsupported:
            pytest.skip("the driver cannot pause")
        run(driver.resume(task))
        run(driver.resume(task))
        run(driver.pause(task))
        assert task.pid in driver.processes(task)
        run(driver.delete(task))
        assert task.id not in driver.walk()

    def test_numbers_and_limits(self, driver: IsolationDriver, task: TaskHandle) -> None:
        """Where there are any: the numbers have their names, and nothing was killed for memory."""
        assert driver.oom_killed(task) is False
        try:
            stats = driver.stats(task)
        except Unsupported:
            pytest.skip("the driver counts nothing")
        assert stats["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
        if "pids" in driver.machine().controllers:
            driver.update(task, {"pids": {"limit": 77}})
            assert driver.stats(task)["pids_stats"]["limit"] == 77


class TestIsolation(IsolationSuite):
    """The driver that ``--boxwood-isolation`` names."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).driver_options = chosen(request, "isolation")
