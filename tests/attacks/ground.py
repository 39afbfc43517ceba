"""Where attacks on the launch are made: a root, a folder of the host, a shim of one's choice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from boxwood.errors import LaunchError
from boxwood.execution import shim_process
from boxwood.execution.shim import Client, Shim, ShimConfig
from boxwood_ext import program as bxp
from tests.integration.launch import programs

SECRET = "what only the host may read"
SECONDS = 20.0
WRITE = {"x86_64": "1 ", "aarch64": "64 "}[os.uname().machine]  # the number of write(2)


class Outcome(NamedTuple):
    """What became of a launch: an exit code and output, or the operation that failed."""

    code: int | None
    out: str
    failed: LaunchError | None = None

    @property
    def ran(self) -> bool:
        return self.failed is None


@dataclass
class Ground:
    """One attack's own root and folders, and the shim that it is made on.

    Attributes:
        shim: the program; None is the one that is installed.
        tree: the container's root, a copy that may be spoilt.
        outside: a folder of the host with a file ``marker`` (SECRET in it): never to be reached.
        data: the folder of the host that the shim has open, with a ``marker`` too.
    """

    shim: Path | None
    folder: Path
    tree: Path = field(init=False)
    plain: bool = False
    """Start the program from its file, not from a sealed copy."""
    program: int = -1
    """The program that was started last."""

    def __post_init__(self) -> None:
        self.opened: list[int] = []
        self._shims: set[int] = set()
        self.outside, self.data, self.run = (self.folder / n for n in ("out", "data", "run"))
        for path in (self.outside, self.data, self.run):
            path.mkdir()
        for path in (self.outside, self.data):
            (path / "marker").write_text(SECRET)
        self.tree = programs.make_tree(self.folder / "root")

    async def writing(self) -> None:
        """Wait until a process that the shim has made is in write(2): the kernel tells nobody."""
        async with asyncio.timeout(10):
            while not any(map(is_writing, children(*self._shims))):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """Let the programs go."""
        while self.opened:
            os.close(self.opened.pop())

    def launch(
        self,
        code: bytes,
        *slots: int,
        tty: bool = False,
        stdin: bool = False,
        during: Callable[[Shim], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Run a program with the root on slot 0; ``during``: what is done while it runs."""
        return asyncio.run(self._launch(code, slots, tty, stdin, during))

    def _executable(self) -> int:
        path = self.shim or shim_process.shim_path()
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if self.plain else shim_process.seal(path)

    async def spawn(self, *, tty: bool = False, stdin: bool = False) -> Shim:
        """Start a shim of this ground's build."""
        before = children()
        config = ShimConfig(
            id="attack", directory=self.run, exit_file=self.data / "exit", tty=tty,
            open_stdin=stdin, durable=False,
        )  # fmt: skip
        program = self._executable()
        self.program = os.dup(program)
        self.opened.append(self.program)
        with pytest.MonkeyPatch.context() as patch:
            # Which program is started; the engine has but one.
            patch.setattr(shim_process, "executable", lambda: program)
            try:
                return await Shim.spawn(config)
            finally:
                os.close(program)
                self._shims |= children() - before

    async def _launch(
        self,
        code: bytes,
        slots: Sequence[int],
        tty: bool,
        stdin: bool,
        during: Callable[[Shim], Awaitable[None]] | None,
    ) -> Outcome:
        shim = await self.spawn(tty=tty, stdin=stdin)
        ours, theirs = socket.socketpair()
        try:
            with programs.detached(self.tree) as root:
                client = Client(fd=theirs.fileno())
                try:
                    await shim.start(code, [root, *slots], clients=[client], timeout=SECONDS)
                except LaunchError as error:
                    return Outcome(None, "", error)
                theirs.detach()
            if during is not None:
                await during(shim)
                return Outcome(None, "")
            out = await everything(ours)
            return Outcome((await asyncio.wait_for(shim.wait(), SECONDS)).code, out)
        finally:
            ours.close()
            theirs.close()
            await shim.kill()
            await shim.close()
            await self._ended()

    async def _ended(self) -> None:
        """The shim ends by itself; a weakened one is not waited for."""
        end = time.monotonic() + (SECONDS if self.shim is None else 0.2)
        while left := self._shims & children():
            if time.monotonic() > end:
                assert self.shim is not None, "the shim stays"
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
        self._shims.clear()


def children(*parents: int) -> set[int]:
    """The processes that these have started; without any, this one's."""
    found = set()
    for parent in parents or (os.getpid(),):
        with contextlib.suppress(FileNotFoundError):  # a thread or a process that has ended
            for task in Path(f"/proc/{parent}/task").iterdir():
                found |= set(map(int, (task / "children").read_text().split()))
    return found


def is_writing(pid: int) -> bool:
    """Is the process in write(2)? See proc_pid_syscall(5)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/syscall").read_text().startswith(WRITE)
    return False


async def everything(stream: socket.socket) -> str:
    """All that comes out until the end."""
    stream.setblocking(False)
    parts = []
    async with asyncio.timeout(SECONDS):
        while part := await asyncio.get_running_loop().sock_recv(stream, 65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


async def execute(shim: Shim, name: str, code: bytes, *slots: int) -> str:
    """Run a further program in the container; what it wrote. Slot 0 is the container's pidfd."""
    pidfd = os.pidfd_open(shim.pid)
    ours, theirs = socket.socketpair()
    try:
        await shim.exec(name, code, [pidfd, *slots], clients=[Client(fd=theirs.fileno())])
        theirs.detach()
        return await everything(ours)
    finally:
        os.close(pidfd)
        ours.close()
        theirs.close()


def edited(code: bytes, change: Callable[[list[programs.Item]], None]) -> bytes:
    """The program, its list of operations changed in place."""
    items: list[programs.Item] = [(op.name, *op.values) for op in bxp.decode(code)]
    change(items)
    return bxp.encode(items)


def replaced(code: bytes, name: str, *instead: programs.Item) -> bytes:
    """The program with the first operation of that name replaced."""

    def change(items: list[programs.Item]) -> None:
        at = [item[0] for item in items].index(name)
        items[at : at + 1] = instead

    return edited(code, change)
