"""The fixtures every test may use; their code stands in tests/support."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import leaks, needs
from tests.support.dockerd import Dockerd
from tests.support.engine import Engine, Server, running
from tests.support.needs import IN_CI, need_root
from tests.support.paths import MARK, ROOMS, make_room
from tests.support.storage import CHOSEN, place_for

# Random in each: a run that always tries the same finds nothing new. What failed is printed as a
# line to paste (@reproduce_failure). A slow machine is no failure, so there is no deadline.
COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("default", max_examples=100, **COMMON)
hypothesis.settings.register_profile("ci", max_examples=100, database=None, **COMMON)
hypothesis.settings.register_profile("fuzz", max_examples=10_000, **COMMON)
SHARED: list[Server] = []
"""The daemons that all tests share, as far as they were started."""
LEFT = pytest.StashKey[bool]()
"""Is something of ours left on the machine?"""
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "default")
hypothesis.settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what says how long: `--soak` for the load and fault tests, the others for fuzzing."""
    parser.addoption("--soak", action="store_true", help="run the load and fault tests at length")
    seconds = 60.0 if PROFILE == "fuzz" else 2.0
    parser.addoption(
        "--fuzz-seconds", type=float, default=seconds, metavar="S", help="time for each fuzz target"
    )
    parser.addoption("--fuzz-seed", type=int, default=0, metavar="N", help="repeat what was found")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What was left behind is no single test's failure: `./dev test` tries nothing again then."""
    if not session.config.stash.get(LEFT, False):
        return
    if hasattr(session.config, "workeroutput"):  # one of several that share the tests
        session.config.workeroutput["left"] = True
    session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear from one of several whether something was left behind."""
    del error
    if getattr(node, "workeroutput", {}).get("left"):
        node.config.stash[LEFT] = True


@pytest.fixture(scope="session")
def fuzz_seconds(request: pytest.FixtureRequest) -> float:
    """How long each fuzz target runs."""
    return float(request.config.getoption("--fuzz-seconds"))


@pytest.fixture
def fuzz_random(request: pytest.FixtureRequest) -> random.Random:
    """The source of a fuzz target's inputs; its seed is printed when the test fails."""
    seed = request.config.getoption("--fuzz-seed") or random.SystemRandom().randrange(1, 1 << 32)
    print(f"--fuzz-seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Are the full counts asked for?"""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session", autouse=True)
def nothing_left(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fail the run if a mount, link, namespace, cgroup, process or loop device of ours is left."""
    # A run that a test starts bears the mark of the one it is part of.
    os.environ[MARK] = f"{os.environ.get(MARK, '')}{uuid.uuid4().hex}."
    ROOMS.add(str(tmp_path_factory.getbasetemp()))
    before = leaks.look()
    # Runs within this one clean folders of earlier runs away: not each other's.
    with tempfile.TemporaryDirectory(prefix="runs.") as room:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = room
        yield
    left = leaks.left_since(before)
    if left:
        request.config.stash[LEFT] = True
        pytest.fail("left behind by the tests:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that all tests share, with busybox in it. Nobody kills or reconfigures it."""
    need_root()
    waits = {"BOXWOOD_REGISTRY_WAITS": "0.2"}
    with place_for(CHOSEN) as place, running(Engine(place=place, variables=waits)) as server:
        assert isinstance(server, Engine)
        SHARED.append(server)
        yield server


@pytest.fixture
def clean_engine(engine: Engine) -> Iterator[Engine]:
    """The shared engine, without a container before and after the test; it keeps no image."""
    with engine.as_it_was():
        yield engine


@pytest.fixture(autouse=True)
def shared_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves an image on a shared daemon, or takes one: others count them."""
    names = [name for name in ("engine", "dockerd") if name in request.fixturenames]
    # A module may have an engine of its own by that name.
    servers = [one for name in names if (one := request.getfixturevalue(name)) in SHARED]
    before = [server.images() for server in servers]
    yield
    after = [server.images() for server in servers]
    if after != before:
        pytest.fail(f"the shared daemons' images: {before} before, {after} after", pytrace=False)


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
        SHARED.append(server)
        yield server


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder on disk with a short name, where an engine may keep its things."""
    path = make_room("room")
    yield path
    shutil.rmtree(path)
