"""A busybox root, and shims that are gone when the test is."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.execution import shim_process
from boxwood.execution.shim import Client, Shim, ShimConfig
from tests.integration.launch import programs
from tests.support.needs import need, need_root
from tests.support.paths import clear_room, make_room

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", autouse=True)
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With BOXWOOD_SANITIZE=1 the tests run with a shim under the address and undefined-behaviour
    sanitizers; what they find is printed and fails the run."""
    if not os.environ.get("BOXWOOD_SANITIZE"):
        yield
        return
    folder = tmp_path_factory.mktemp("sanitized")
    options = folder / "options.c"
    options.write_text(
        "const char *__asan_default_options(void)\n"
        f'{{ return "log_path={folder}/report:detect_leaks=0"; }}\n'
        "const char *__ubsan_default_options(void)\n"
        f'{{ return "log_path={folder}/report:print_stacktrace=1"; }}\n'
    )
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined",
               "-fno-sanitize-recover=all", "-D_GNU_SOURCE", f"-I{ROOT}/ext/c",
               f"-I{ROOT}/ext/c/generated", "-o", folder / "boxwood-shim", options]  # fmt: skip
    subprocess.run([*command, *sorted((ROOT / "ext/c").glob("*.c"))], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shim_process, "shim_path", lambda: folder / "boxwood-shim")
        yield
    reports = [path.read_text() for path in folder.glob("report*")]
    assert not reports, "\n".join(reports)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that no test writes to."""
    need_root()
    need(os.path.exists(programs.BUSYBOX), "busybox (Debian's busybox-static)")
    return programs.make_tree(tmp_path_factory.mktemp("launch") / "root")


@pytest.fixture
def own_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(tree, tmp_path / "own", symlinks=True))


class Box:
    """One container under a shim, with the paths and clients of the test."""

    def __init__(self, tree: Path, folder: Path, **config: Any) -> None:
        self.tree = tree
        self.run, self.data = folder / "run", folder / "data"
        self.run.mkdir(exist_ok=True)
        self.data.mkdir(exist_ok=True)
        config.setdefault("log_path", self.data / "log")
        self.config = ShimConfig(
            id="box", directory=self.run, exit_file=self.data / "exit", **config
        )
        self.shim: Shim | None = None

    async def start(self, program: bytes, *clients: Client) -> Shim:
        """Spawn a shim and launch the program in it."""
        self.shim = await Shim.spawn(self.config)
        with programs.detached(self.tree) as root:
            await self.shim.start(program, [root], clients=clients)
        return self.shim

    async def exec(self, name: str, argv: list[str], *clients: Client, **options: Any) -> int:
        """Launch a further process in the running container."""
        assert self.shim is not None
        pidfd = os.pidfd_open(self.shim.pid)
        try:
            program = programs.joining(argv, tty=options.get("tty", False))
            return await self.shim.exec(name, program, [pidfd], clients=clients, **options)
        finally:
            os.close(pidfd)

    async def end(self) -> None:
        """Kill what runs and let the shim go."""
        if self.shim is not None:
            await self.shim.kill()
            await self.shim.close()


@pytest.fixture
async def box(tree: Path) -> AsyncIterator[Callable[..., Box]]:
    """Makes a Box; its shim is ended after the test. Its sockets' paths are short (unix(7))."""
    boxes: list[Box] = []
    room = make_room("box")

    def make(**config: Any) -> Box:
        folder = room / f"box{len(boxes)}"
        folder.mkdir()
        boxes.append(Box(config.pop("tree", tree), folder, **config))
        return boxes[-1]

    yield make
    for made in boxes:
        await made.end()
    clear_room(room)


class Wire:
    """The client's end of an attached connection."""

    def __init__(self, **options: Any) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.client = Client(fd=theirs.detach(), **options)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, size: int = 65536) -> bytes:
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().sock_recv(self.socket, size)

    async def rest(self) -> bytes:
        """All until the end."""
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    async def until(self, text: bytes) -> bytes:
        """What comes up to and with this text."""
        seen = b""
        while text not in seen:
            piece = await self.receive()
            assert piece, f"the end came after {seen!r}"
            seen += piece
        return seen


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """Makes connections; closed after the test."""
    wires: list[Wire] = []

    def make(**options: Any) -> Wire:
        wires.append(Wire(**options))
        return wires[-1]

    yield make
    for made in wires:
        made.socket.close()
