"""An engine's helper, its names and ports, in a folder of the test's own; a network namespace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from boxwood.execution.helper import SOCKET, Helper
from boxwood.execution.names import Names
from boxwood.execution.ports import Ports
from boxwood.execution.shim_process import connect
from boxwood_ext.net import make_namespace
from tests.support.needs import need_root, until


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
