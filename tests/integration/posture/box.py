"""A container without an engine: document, driver, launch program, interpreter.

What a test weakens it weakens in the program itself (operations dropped or changed before they
run): so it is shown which operation is the defence.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import os
import secrets
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from boxwood.drivers.isolation import Bundle, Document, Launch, TaskHandle
from boxwood.execution.spec import (
    ResolvedUser,
    SandboxInfo,
    SpecDefaults,
    SpecMount,
    build_exec_process,
    build_spec,
)
from boxwood.model.config import ContainerConfig, HostConfig
from boxwood.model.container import Container
from boxwood_ext import mount, program
from boxwood_ext.launch import run_program
from boxwood_plugins.isolation.native.driver import NativeDriver
from tests.support.busybox import busybox_tar
from tests.support.needs import need_program
from tests.support.paths import clear_room, make_room
from tests.support.storage import Roots

# What Docker has in /dev; core only where the kernel has /proc/kcore.
DEVICES = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
if os.path.exists("/proc/kcore"):
    DEVICES.insert(0, "core")

HERE = Path(__file__).parent
Ops = list[program.Op]
Weaken = Callable[[Ops], Ops]


class Result(NamedTuple):
    """What became of a process; ``code`` is 128 + N for a signal."""

    code: int
    out: str
    err: str


@cache
def driver() -> NativeDriver:
    room = make_room("isolation", memory=True)
    atexit.register(clear_room, room)
    return NativeDriver(room)


@cache
def probe_program() -> bytes:
    """Compile the attacks that a shell cannot make."""
    compiler = need_program("gcc")
    with tempfile.TemporaryDirectory(prefix="boxwood-test-") as room:
        made = Path(room) / "probe"
        subprocess.run([compiler, "-static", "-O1", "-o", made, HERE / "probe.c"], check=True)
        return made.read_bytes()


ROOTS: Roots | None = None
"""What roots come from; None: each is a tmpfs, which is the quickest."""


@contextmanager
def new_root() -> Iterator[int]:
    """A detached mount with busybox and the probe in it."""
    if ROOTS is not None:
        with ROOTS.new() as root:
            yield root
        return
    context = mount.fsopen("tmpfs")
    try:
        mount.fsconfig_string(context, "mode", "755")
        mount.fsconfig_create(context)
        root = mount.fsmount(context)
    finally:
        os.close(context)
    try:
        fill(Path(f"/proc/self/fd/{root}"))
        yield root
    finally:
        os.close(root)


def fill(top: Path) -> None:
    """Put busybox and the probe into an empty tree."""
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as archive:
        archive.extractall(top, filter="fully_trusted")
    probe = top / "bin" / "probe"
    probe.write_bytes(probe_program())
    probe.chmod(0o755)


def drop(*names: str) -> Weaken:
    """Leave operations of these names out."""
    return lambda ops: [op for op in ops if op.name not in names]


class Box:
    """One container. A context manager: what it made is gone afterwards."""

    def __init__(
        self,
        *args: str,
        host: HostConfig | None = None,
        config: dict[str, Any] | None = None,
        user: ResolvedUser | None = None,
        mounts: Sequence[SpecMount] = (),
        image: Callable[[Path], None] | None = None,
        weaken: Weaken | None = None,
        edit: Callable[[Document], None] | None = None,
        defaults: dict[str, Any] | None = None,
        sandbox: SandboxInfo | None = None,
    ) -> None:
        self.id = secrets.token_hex(32)
        self.weaken = weaken
        self._room = ExitStack()
        self.root = self._room.enter_context(new_root())
        if image is not None:
            image(Path(f"/proc/self/fd/{self.root}"))
        self.container = Container(
            id=self.id,
            name="box",
            created_at=0,
            image_id="sha256:0",
            image_ref="busybox",
            path=args[0],
            args=args[1:],
            config=ContainerConfig(**{"hostname": self.id[:12], **(config or {})}),
            host_config=host or HostConfig(network_mode="none"),
            networks={},
            storage_driver="none",
            snapshot_key=self.id,
        )
        self.spec = build_spec(
            self.container,
            user=user or ResolvedUser(home="/root"),
            daemon=SpecDefaults(machine=driver().machine(), **(defaults or {})),
            sandbox=sandbox or SandboxInfo(),
            mounts=mounts,
        )
        if edit is not None:
            edit(self.spec)
        self.pid = 0
        self.pidfd = -1
        self.terminal: int | None = None
        self._readers: list[tuple[threading.Thread, list[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run(driver().delete(self.handle))
        if self.pidfd >= 0:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            os.close(self.pidfd)
        for thread, _ in self._readers:
            thread.join(10)
        self._room.close()

    @property
    def handle(self) -> TaskHandle:
        return TaskHandle(id=self.id, pid=self.pid, spec=self.spec)

    def start(self) -> Box:
        """Start it; LaunchFailed goes through."""
        bundle = Bundle(id=self.id, directory=Path("/tmp"), spec=self.spec, root_fd=self.root)
        launch = driver().prepare(bundle)
        self.pid, self.pidfd, self.terminal = self._launch(launch, self._readers)
        return self

    def _launch(
        self, launch: Launch, readers: list[tuple[threading.Thread, list[bytes]]]
    ) -> tuple[int, int, int | None]:
        ops = program.decode(launch.program)
        if self.weaken is not None:
            ops = self.weaken(ops)
        code = program.encode((op.name, *op.values) for op in ops)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        readers += [_reader(out), _reader(err)]
        try:
            with launch:
                return run_program(code, launch.fds, (null, out_end, err_end))
        finally:
            for fd in (null, out_end, err_end):
                os.close(fd)

    def wait(self) -> Result:
        """Wait for the first process."""
        result = _collect(self.pidfd, self._readers)
        self.pidfd = -1
        return result

    def run(self) -> Result:
        self.start()
        return self.wait()

    def exec(self, *args: str, user: ResolvedUser | None = None, **request: Any) -> Result:
        """Run one more process in it."""
        process = build_exec_process(
            self.container,
            self.spec,
            ExecConfig(args, **request),
            user or ResolvedUser(home="/root"),
            driver().machine(),
        )
        readers: list[tuple[threading.Thread, list[bytes]]] = []
        _, pidfd, _ = self._launch(driver().exec(self.handle, process), readers)
        return _collect(pidfd, readers)


class ExecConfig(NamedTuple):
    """What the containers service hands to build_exec_process."""

    cmd: Sequence[str]
    env: Sequence[str] = ()
    tty: bool = False
    privileged: bool = False
    working_dir: str = ""


def _reader(fd: int) -> tuple[threading.Thread, list[bytes]]:
    parts: list[bytes] = []

    def read() -> None:
        with open(fd, "rb", buffering=0) as stream:
            while data := stream.read(65536):
                parts.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, parts


def _collect(pidfd: int, readers: list[tuple[threading.Thread, list[bytes]]]) -> Result:
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert status is not None
    texts = []
    for thread, parts in readers:
        thread.join(10)
        assert not thread.is_alive(), "somebody holds the output open"
        texts.append(b"".join(parts).decode(errors="replace"))
    killed = status.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
    return Result(status.si_status + 128 * killed, *texts)


def run(*args: str, **more: Any) -> Result:
    """Run a container to its end."""
    with Box(*args, **more) as box:
        return box.run()


def shell(script: str, **more: Any) -> Result:
    """Run a shell script in a container."""
    return run("sh", "-c", script, **more)
