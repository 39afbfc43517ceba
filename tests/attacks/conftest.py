"""Weakened builds for the session, and ground to make attacks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.ground import Ground
from tests.attacks.weaken import Builds
from tests.integration.launch import programs
from tests.support.needs import need, need_root


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """Builds that lack a guard; each is made once."""
    return Builds(tmp_path_factory.mktemp("weakened"))


@pytest.fixture
def ground(tmp_path: Path, builds: Builds) -> Iterator[Callable[..., Ground]]:
    """Make ground: `ground(*guards)` on a build without these, `ground()` on the installed one."""
    need_root()
    need(Path(programs.BUSYBOX).exists(), "busybox (Debian's busybox-static)")
    made: list[Ground] = []

    def make(*guards: str, plain: bool = False) -> Ground:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Ground(builds.shim(*guards) if guards else None, folder, plain))
        return made[-1]

    yield make
    for one in made:
        one.close()
