"""Launches that hang in a file system: ended from outside, and told by name."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.errors import DeadlineExceeded, LaunchError
from boxwood.execution.shim import Shim
from boxwood_ext import program as bxp
from tests.faults.hungfs import hung_mount
from tests.integration.launch import programs

pytestmark = pytest.mark.root


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A path on a file system whose server never answers."""
    point = tmp_path / "hung"
    point.mkdir()
    with hung_mount(point):
        yield point / "deep"


async def launch(box: Any, program: bytes, timeout: float) -> Shim:
    """Spawn the shim of the box and launch; the box has it before the launch is over."""
    box.shim = await Shim.spawn(box.config)
    with programs.detached(box.tree) as root:
        await box.shim.start(program, [root], timeout=timeout)
    shim: Shim = box.shim
    return shim


def binding(source: Path) -> bytes:
    """A container that binds ``source``."""
    item = ("bind", str(source), "/mnt", 0, 0, 0, bxp.MS_PRIVATE)
    return programs.container(["true"], extra=[item])


async def test_the_deadline_says_what_hangs(box: Any, hung: Path) -> None:
    """Not even SIGKILL ends the process, so the answer does not wait for its end."""
    with pytest.raises(DeadlineExceeded) as caught:
        await launch(box(), binding(hung), 0.3)
    assert f"bind: {hung}" in str(caught.value)


async def test_interrupted(box: Any, hung: Path) -> None:
    """Whoever launches is told the operation and its object."""
    made = box()
    launching = asyncio.ensure_future(launch(made, binding(hung), 30))
    await asyncio.sleep(0.3)
    await made.shim.interrupt()
    with pytest.raises(LaunchError) as caught:
        await launching
    found = caught.value
    assert (found.operation, found.target, found.errno) == ("bind", str(hung), errno.EINTR)
