"""An engine's helper, its names and ports, in a folder of the test's own; a network namespace."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwood.execution import helper as helper_module
from boxwood.execution.helper import SOCKET, Helper
from boxwood.execution.names import Names
from boxwood.execution.ports import Ports
from boxwood.execution.shim_process import connect
from boxwood_ext.net import make_namespace
from tests.support.needs import need_root, until

ROOT = Path(__file__).resolve().parents[3]
SANITIZE = bool(os.environ.get("BOXWOOD_SANITIZE"))


@contextmanager
def helper_of(program: Path, *flags: str) -> Iterator[None]:
    """Have a helper that is compiled with more flags."""
    c = ROOT / "ext/c"
    command = ["gcc", "-std=gnu11", "-O1", "-D_GNU_SOURCE", f"-I{c}", f"-I{c}/generated",
               "-o", program, *flags]  # fmt: skip
    shared = (c / "decode.c", c / "message.c")
    subprocess.run([*command, *sorted(c.glob("helper/*.c")), *shared], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helper_module, "program_path", lambda: program)
        helper_module._executable.cache_clear()
        yield
    helper_module._executable.cache_clear()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[None]:
    """A helper for which a second is 5 ms when it thinks of asking again, looking every 400."""
    program = tmp_path / "hasty-helper"
    with helper_of(program, "-DREFRESH_SECOND=5", "-DREFRESH_TURN=400"):
        yield


@pytest.fixture(scope="session", autouse=True)
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With BOXWOOD_SANITIZE=1 the tests run with a helper under the address and undefined-behaviour
    sanitizers, without its system call filter; what they find is printed and fails the run."""
    if not SANITIZE:
        yield
        return
    folder = tmp_path_factory.mktemp("sanitized")
    reports = folder / "reports"
    reports.mkdir()
    reports.chmod(0o777)  # the helper is nobody
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    options = folder / "options.c"
    options.write_text(
        "const char *__asan_default_options(void)\n"
        f'{{ return "log_path={reports}/report:detect_leaks=1"; }}\n'
        "const char *__ubsan_default_options(void)\n"
        f'{{ return "log_path={reports}/report:print_stacktrace=1"; }}\n'
    )
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DBX_NO_FILTER")
    with helper_of(folder / "boxwood-helper", *flags, str(options)):
        yield
    found = [path.read_text() for path in reports.iterdir()]
    assert not found, "\n".join(found)


class Daemon:
    """The daemon's side of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.helper = Helper(folder)
        self.names = Names(self.helper)
        self.ports = Ports(self.helper)

    async def vanish(self) -> None:
        """End without a word, as a killed daemon does: only descriptors are closed."""
        await self.helper.close()
        self.names.release()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon's side, whose helper ends with the test."""
    need_root()
    made = Daemon(tmp_path)
    yield made
    await made.vanish()
    last = Daemon(tmp_path)
    if await last.helper.adopt():
        await last.names.reconcile({}, {})
        await last.ports.reconcile({})
        last.helper.drop_given()
    await last.vanish()
    await asyncio.to_thread(until, lambda: _nobody(tmp_path), "the helper ends")


def _nobody(folder: Path) -> bool:
    connection = connect(folder, SOCKET)
    if connection is not None:
        connection.close()
    return connection is None


@pytest.fixture
def namespaces() -> Iterator[Callable[[], int]]:
    """Makes network namespaces, which are let go of at the end."""
    need_root()
    made: list[int] = []

    def make() -> int:
        made.append(make_namespace())
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def netns(namespaces: Callable[[], int]) -> int:
    """A network namespace with its loopback up."""
    return namespaces()
