"""The fixtures every test may use; their code stands in tests/support."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import leaks, needs
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, running
from tests.support.needs import need_root
from tests.support.paths import MARK, ROOMS, make_room


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`: the full counts of the load and fault tests."""
    parser.addoption("--soak", action="store_true", help="run the load and fault tests at length")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Are the full counts asked for?"""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run if a mount, link, namespace, cgroup, process or loop device of ours is left."""
    # A run that a test starts bears the mark of the one it is part of.
    os.environ[MARK] = f"{os.environ.get(MARK, '')}{uuid.uuid4().hex}."
    ROOMS.add(str(tmp_path_factory.getbasetemp()))
    before = leaks.look()
    yield
    left = leaks.left_since(before)
    if left:
        pytest.fail("left behind by the tests:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that all tests share, with busybox in it. Nobody kills or reconfigures it."""
    need_root()
    server = Engine()
    with running(server):
        yield server


@pytest.fixture
def clean_engine(engine: Engine) -> Iterator[Engine]:
    """The shared engine, without a container before and after the test."""
    engine.remove_containers()
    yield engine
    engine.remove_containers()


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Make engines of the test's own: `make_engine(*flags, busybox=True, start=True)`."""
    need_root()
    with contextlib.ExitStack() as made:

        def make(*flags: str, busybox: bool = True, start: bool = True) -> Engine:
            server = Engine(*flags)
            made.callback(server.close)
            if start:
                server.start()
                if busybox:
                    server.add_busybox()
            return server

        yield make


@pytest.fixture(scope="session")
def busybox_image(engine: Engine) -> str:
    """The name of an image that the shared engine has."""
    assert engine.api("GET", "/images/busybox/json").status == 200
    return "busybox"


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """Debian's Docker daemon on roots of its own, with busybox in it."""
    need_root()
    needs.need_program("dockerd")
    server = Dockerd()
    with running(server):
        yield server


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder on disk with a short name, where an engine may keep its things."""
    path = make_room("room")
    yield path
    shutil.rmtree(path)
